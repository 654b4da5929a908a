// Stripe's own library for Node against the sandbox: node stripe_node.mjs HOST PORT KEY ACCOUNT
// Prints one line for each thing that a client does: "passed NAME", or "failed NAME: why".
import assert from "node:assert/strict";
import Stripe from "stripe";

const [host, port, key, account] = process.argv.slice(2);
const options = { host, port, protocol: "http", maxNetworkRetries: 0 };
const stripe = new Stripe(key, options);
const order = { amount: 12500, currency: "usd", destination: account, transfer_group: "node" };

const refused = async (type, code, call) => {
  const error = await call().then(() => null, (found) => found);
  assert.ok(error, "it was not refused");
  assert.equal(error.type, type);
  if (code) assert.equal(error.code, code);
  return error;
};

const things = {
  "transfers: create, retrieve, update, list": async () => {
    const made = await stripe.transfers.create({ ...order, metadata: { incident: "INC-1" } });
    assert.equal((await stripe.transfers.retrieve(made.id)).amount, 12500);
    const changed = await stripe.transfers.update(made.id, { metadata: { seen: "yes" }, description: "by hand" });
    assert.deepEqual({ ...changed.metadata }, { incident: "INC-1", seen: "yes" });
    assert.ok((await stripe.transfers.list({ transfer_group: "node" })).data.some((one) => one.id === made.id));
  },
  "transfers: expand": async () => {
    const made = await stripe.transfers.create({ ...order, expand: ["balance_transaction", "destination"] });
    assert.equal(made.balance_transaction.amount, -12500);
    assert.equal(made.destination.id, account);
  },
  "transfers: list to the last page": async () => {
    for (let number = 0; number < 5; number++) await stripe.transfers.create({ ...order, amount: 100, transfer_group: "pages" });
    const found = await stripe.transfers.list({ transfer_group: "pages", limit: 2 }).autoPagingToArray({ limit: 100 });
    assert.equal(new Set(found.map((one) => one.id)).size, 5);
  },
  "reversals: create, retrieve, update, list": async () => {
    const made = await stripe.transfers.create(order);
    const back = await stripe.transfers.createReversal(made.id, { amount: 75 });
    assert.equal((await stripe.transfers.retrieveReversal(made.id, back.id)).amount, 75);
    assert.equal((await stripe.transfers.updateReversal(made.id, back.id, { metadata: { why: "typo" } })).metadata.why, "typo");
    assert.equal((await stripe.transfers.listReversals(made.id)).data.length, 1);
  },
  "idempotency: the same key, the same transfer": async () => {
    const once = { idempotencyKey: "node-1" };
    const first = await stripe.transfers.create(order, once);
    const second = await stripe.transfers.create(order, once);
    assert.equal(first.id, second.id);
    assert.equal(second.lastResponse.headers["idempotent-replayed"], "true");
    await refused("StripeIdempotencyError", null, () => stripe.transfers.create({ ...order, amount: 1 }, once));
  },
  "accounts: retrieve, list, capabilities, external accounts": async () => {
    assert.equal((await stripe.accounts.retrieve(account)).id, account);
    assert.ok((await stripe.accounts.list()).data.length >= 1);
    assert.equal((await stripe.accounts.listCapabilities(account)).data[0].id, "transfers");
    assert.equal((await stripe.accounts.retrieveCapability(account, "transfers")).status, "active");
    assert.equal((await stripe.accounts.listExternalAccounts(account, { object: "bank_account" })).data.length, 1);
  },
  "on behalf of an account: balance, payouts": async () => {
    const behalf = { stripeAccount: account };
    assert.equal((await stripe.balance.retrieve({}, behalf)).object, "balance");
    const payout = await stripe.payouts.create({ amount: 100, currency: "usd" }, behalf);
    assert.equal((await stripe.payouts.retrieve(payout.id, {}, behalf)).id, payout.id);
    assert.equal((await stripe.payouts.cancel(payout.id, {}, behalf)).status, "canceled");
  },
  "balance transactions, charges, refunds": async () => {
    assert.ok((await stripe.balanceTransactions.list({ limit: 1 })).has_more);
    assert.ok((await stripe.charges.list({}, { stripeAccount: account })).data.length >= 1);
    assert.equal((await stripe.refunds.list()).object, "list");
  },
  "payment intents: create, search": async () => {
    const paid = await stripe.paymentIntents.create({
      amount: 4200, currency: "usd", payment_method: "pm_card_bypassPending", confirm: true, metadata: { game: "Reef" },
    });
    const found = await stripe.paymentIntents.search({ query: 'metadata["game"]:"Reef"' });
    assert.deepEqual(found.data.map((one) => one.id), [paid.id]);
  },
  "events by type": async () => {
    assert.deepEqual((await stripe.events.list({ type: "transfer.created", limit: 3 })).data, []);
  },
  "v2: create, retrieve, list accounts": async () => {
    const made = await stripe.v2.core.accounts.create({
      identity: { country: "US" }, defaults: { responsibilities: { fees_collector: "application", losses_collector: "application" } },
      configuration: { recipient: { capabilities: { stripe_balance: { stripe_transfers: { requested: true } } } } },
    });
    assert.equal((await stripe.v2.core.accounts.retrieve(made.id)).id, made.id);
    assert.equal((await stripe.v2.core.accounts.list({ limit: 1 })).data[0].id, made.id);
  },
  "errors of each kind": async () => {
    await refused("StripeInvalidRequestError", "resource_missing", () => stripe.transfers.retrieve("tr_none"));
    await refused("StripeInvalidRequestError", "balance_insufficient", () => stripe.transfers.create({ ...order, amount: 99999999 }));
    await refused("StripeInvalidRequestError", "parameter_unknown", () => stripe.transfers.create({ ...order, colour: "red" }));
    await refused("StripeAuthenticationError", null, () => new Stripe("sk_test_wrong", options).balance.retrieve());
    await refused("StripePermissionError", null, () => stripe.balance.retrieve({}, { stripeAccount: "acct_none" }));
  },
  "errors: a version that cannot be": async () => {
    const error = await refused("StripeInvalidRequestError", null, () => new Stripe(key, { ...options, apiVersion: "2019-2-19" }).balance.retrieve());
    assert.match(error.message, /Invalid Stripe API version: 2019-2-19/);
  },
  "errors: an endpoint that is not there": async () => {
    const error = await refused("StripeInvalidRequestError", null, () => stripe.issuing.cards.list());
    assert.match(error.message, /Unrecognized request URL \(GET: \/v1\/issuing\/cards\)/);
  },
  "errors: a trailing slash": async () => {
    const before = (await stripe.transfers.list({ limit: 100 })).data.length;
    await refused("StripeInvalidRequestError", null, () => stripe.rawRequest("POST", "/v1/transfers/", order));
    assert.equal((await stripe.transfers.list({ limit: 100 })).data.length, before);
  },
};

for (const [name, act] of Object.entries(things)) {
  await act().then(() => console.log(`passed ${name}`), (error) => console.log(`failed ${name}: ${error.message.replaceAll("\n", " ")}`));
}

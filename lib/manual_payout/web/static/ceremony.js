"use strict";
// The ceremony and the live board; without it every page still reads.

const bytes = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0));
const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer || [])))
  .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const say = (message, remedy) => {
  const place = document.getElementById("said");
  place.textContent = remedy ? `${message} ${remedy}` : message;
  place.hidden = !message;
};

async function post(path, told) {
  const answer = await fetch(path, {method: "POST", headers: {"content-type": "application/json"},
    body: JSON.stringify(told), redirect: "error"});
  const found = await answer.json().catch(() => ({error: "The server did not take it.", remedy: "Open the page again."}));
  if (!answer.ok) throw Object.assign(new Error(found.error), {remedy: found.remedy});
  return found;
}

async function assertion(id, challenge, host) {
  const given = await navigator.credentials.get({publicKey: {challenge: bytes(challenge), rpId: host,
    userVerification: "required", timeout: 120000}});
  const answer = given.response;
  return {id, authenticator_data: text(answer.authenticatorData), client_data: text(answer.clientDataJSON),
    signature: text(answer.signature), user_handle: text(answer.userHandle)};
}

async function sign(button) {
  const {id, challenge, host, path} = button.dataset;
  const found = await post(path, await assertion(id, challenge, host));
  location.assign(found.go);
}

async function enroll(button) {
  const {user, name, shown, challenge, host} = button.dataset;
  const made = await navigator.credentials.create({publicKey: {
    rp: {id: host, name: "Manual payouts"}, user: {id: bytes(user), name, displayName: shown},
    challenge: bytes(challenge), pubKeyCredParams: [{type: "public-key", alg: -7}], attestation: "none", timeout: 120000,
    authenticatorSelection: {residentKey: "required", requireResidentKey: true, userVerification: "required"}}});
  const key = made.response;
  const next = await post("/enroll/key", {user, algorithm: String(key.getPublicKeyAlgorithm()), spki: text(key.getPublicKey())});
  say("Now use it once, so that OpenSSH can check what it signs.");
  const found = await post("/enroll/test", await assertion(next.id, next.challenge, host));
  say("");
  for (const part of ["line", "fingerprint", "kept"]) document.getElementById(part).textContent = found[part];
  document.getElementById("made").hidden = false;
  button.hidden = true;
}

for (const [name, act] of [["sign", sign], ["enroll", enroll]]) {
  const button = document.getElementById(name);
  if (!button) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    say("");
    try {
      if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys.");
      await act(button);
    } catch (error) {
      say(error.name === "NotAllowedError" ? "The authenticator did not sign: cancelled, timed out, or it has no passkey of this site."
        : error.message, error.remedy || (button.dataset.path ? "Open the page again and begin anew." : ""));
    }
    button.disabled = false;
  });
}

const board = document.getElementById("live");
if (board) setInterval(async () => {
  if (document.hidden || board.contains(document.activeElement)) return;
  const answer = await fetch(location.pathname).catch(() => null);
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  if (fresh) board.replaceChildren(...fresh.childNodes);
}, 15000);

"""Pages of every kind of outcome, made from real records, and the texts that somebody may have put into them."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from manual_payout.domain.errors import ManualPayoutError
from manual_payout.domain.models import Event, Message, MessageState, Mode, State
from manual_payout.evidence.folder import Folder
from manual_payout.evidence.review import review_page
from manual_payout.evidence.story import File, Notebook, read_story
from payout_rehearsal.demo import incident
from truthful_papermill.redaction import Redactor

NEVER = frozenset({"index.html", "manifest.json"})

# What people, Stripe or a provider could write; faults 49 to 55 of the catalogue and what browsers made of such texts.
HOSTILE = {
    "script": "<script>document.body.dataset.ran=1;console.error('ran')</script>",
    "image": "<img src=x onerror=\"console.error('ran')\">",
    "remote": "<img src=https://198.51.100.7/a.png><link rel=stylesheet href=//198.51.100.7/a.css>",
    "leaving_the_style": "</style><script>console.error('ran')</script><style>*{display:none}",
    "leaving_the_attribute": "\"><svg/onload=console.error('ran')>' style='position:fixed;inset:0",
    "frame": "<iframe srcdoc='<script>parent.console.error(1)</script>'></iframe><base href=//198.51.100.7>",
    "refresh": "<meta http-equiv=refresh content='0;url=https://198.51.100.7/'>",
    "address": "javascript:console.error('ran')",
    "template": "{{ 7*7 }}{% raw %}${7*7}<%= 7*7 %>",
    "entities": "&lt;script&gt; &#x3c;b&#x3e; &amp;amp;",
    "comment": "--><!-- ]]> <![CDATA[ <plaintext><xmp>",
    "markdown": "[paid](javascript:1) ![x](https://198.51.100.7/x) **APPROVED** `x`",
    "slack": "<!channel> :white_check_mark: *APPROVED* <https://evil.example|Stripe>",
    "formula": '=HYPERLINK("https://evil.example","ok") +1 -1 @SUM(A1)',
    "sql": "'); DROP TABLE manual_payouts;--",
    "right_to_left": "\u202egnp.exe \u2066 acct_321 \u2069 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "unseen": "a\u200bb\u00adc\ufeffd\u2060e\u180ef\u2028g\u2029h",
    "control": "\x1b[2J\x1b[31mred\x08\x08\r\x00\x07",
    "long_word": "W" * 3000,
    "long_text": "many words " * 400,
    "marks": "Z" + "\u0301" * 80 + "algo",
    "wide": "\u65e5\u672c\u8a9e\uff08\u6771\u4eac\uff09" * 30 + "\U0001f4b8",
    "surrogate": "half \ud83d pair",
}  # fmt: skip


BOOKS = tuple(
    Notebook(f"{number}-verify-01.ipynb", status, "GO", "live", status == "failed", f"{number}.html" if number else "")
    for number, status in enumerate(("completed", "failed", "unknown", "not_run", "damaged"))
)
FILES = tuple(File(f"file-{number}.json", 1234 * number, "ab" * 32) for number in range(8))


def told(scene, **changes):
    """What the page of *scene* tells, some of it changed."""
    desk = scene.desk
    folder = Folder(scene.settings.outputs_dir / incident.INCIDENT_ID / incident.LEDGER_PAYOUT_ID, Redactor([]))
    story = read_story(desk, folder, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, without=NEVER)
    return replace(story, **changes)


def page(scene, story, mode=Mode.SANDBOX):
    """The page of *story* in the world of *mode*."""
    stripe = scene.desk.settings.policy.stripe.model_copy(update={"mode": mode})
    policy = scene.desk.settings.policy.model_copy(update={"stripe": stripe})
    desk = replace(scene.desk, settings=scene.desk.settings.model_copy(update={"policy": policy}))
    return review_page(desk, story, incident.INCIDENT_ID, incident.LEDGER_PAYOUT_ID, ["manifest.json"])


def stories(scene):
    """One story for each kind of outcome: what can be played is played, the others are its row in another state."""
    made = {"dry-run": told(scene)}
    seen = replace(made["dry-run"].events[-1], kind="stage_refused", data={"stage": "1-verify", "message": "Too late."})
    made["refused by us"] = replace(made["dry-run"], events=(*made["dry-run"].events, seen))
    made["nothing"] = replace(made["dry-run"], events=made["dry-run"].events[:3])
    scene.stripe.fault("drop_after")
    scene.stripe.fault("drop_before", method="GET", skip=4, times=9)
    with contextlib.suppress(ManualPayoutError):
        scene.send()
    made["unknown"] = told(scene)
    scene.stripe._desk.front.faults.clear()
    return made | _from_paid(scene)


def _from_paid(scene):
    scene.reconcile()
    paid = told(scene)
    arrived = _observed(paid, "paid_to_bank", done=True)
    row = replace(paid.record, settled_at=scene.desk.now())
    return {
        "moving": _observed(paid, "settled_on_platform"),
        "arrived": replace(arrived, record=row, messages=_messages(scene), notebooks=BOOKS, files=FILES),
        "failed": _observed(paid, "usable_by_studio", failed=True, failed_rung="paid_to_bank", note="Account closed."),
        "refused by Stripe": replace(
            paid, record=replace(paid.record, state=State.REFUSED, stripe_transfer_id=None, outcome_reason="No funds.")
        ),
        "needs a person": replace(paid, record=replace(paid.record, state=State.NEEDS_HUMAN, stripe_transfer_id=None)),
        "reversed": replace(paid, record=replace(paid.record, state=State.PARTLY_REVERSED)),
    }


def _observed(story, rung, **data):
    event = Event(
        stream=story.events[-1].stream, seq=len(story.events) + 1, kind="settlement_observed", at=story.events[-1].at,
        actor=story.events[-1].actor, data={"rung": rung, "done": False, "failed": False, "note": "Seen."} | data,
    )  # fmt: skip
    return replace(story, events=(*story.events, event))


def _messages(scene):
    return tuple(
        Message(
            message_id=str(number), stream="", payout_id=None, kind="studio_email", audience="studio@example.com",
            dedup_key=str(number), subject="Your payout", body_text="Hello,\nit is on its way.", body_html="",
            state=state, created_at=scene.desk.now(), receipt='{"queued": "000001"}', last_error="Greylisted.",
        )
        for number, state in enumerate(MessageState)
    )  # fmt: skip


def poisoned(story, text):
    """The same story with *text* wherever somebody else's words can stand."""
    # A request with half a character could not have been filed: it has no digest.
    typed = text.replace("\ud83d", "")
    line = replace(story.request.line_for(), studio_name=typed, destination_account=typed, studio_id=typed)
    request = replace(story.request, notes=typed, lines=(line,))
    record = story.record and replace(
        story.record, studio_name=text, notes=text, destination_account=text, outcome_reason=text
    )
    check = {"name": text, "question": text, "status": text, "expected": text, "found": text, "remedy": text}
    verification = {
        "at": text, "operator": text, "key": text, "verdict": text, "dry_run": False, "checks": [check],
        "ledger": dict.fromkeys(("balance_before", "balance_after", "reserve_minimum"), text),
    }  # fmt: skip
    return replace(
        story,
        request=request,
        record=record,
        verification=verification,
        events=tuple(_poisoned_event(event, text) for event in story.events),
        messages=tuple(
            replace(m, kind=text, audience=text, subject=text, body_text=text, receipt=text, last_error=text)
            for m in story.messages
        ),
        notebooks=tuple(replace(book, name=text, verdict=text, page=text) for book in story.notebooks),
        files=tuple(replace(file, name=text, digest=text) for file in story.files),
        damage=(text,),
    )


def crowded(story):
    """One story with every hostile text in it, each as a check, a message, a notebook and a file of its own."""
    each = [poisoned(story, text) for text in HOSTILE.values()]
    return replace(
        each[0],
        verification=each[0].verification | {"checks": [one.verification["checks"][0] for one in each]},
        messages=tuple(one.messages[0] for one in each),
        notebooks=tuple(replace(BOOKS[0], name=text, verdict=text, page=text) for text in HOSTILE.values()),
        files=tuple(File(text, 1, text) for text in HOSTILE.values()),
        damage=tuple(HOSTILE.values()),
    )


def _poisoned_event(event, text):
    kept = {name: value for name, value in event.data.items() if not isinstance(value, str)}
    return replace(event, actor=text, data=kept | {"note": text, "shown_by": text, "stage": text, "message": text} | (
        {"rung": event.data["rung"]} if "rung" in event.data else {}
    ))  # fmt: skip

// What one thinks of an answer: a verdict at once, and a comment for who wants to say more.

import { action, call, element, onSubmit, pause, say } from "./shared.js";

const VERDICTS = { up: "Helpful", down: "Not helpful" };
const TRIES = 6;

export function feedback(id, given) {
  const place = element("div", { class: "feedback" });
  const buttons = Object.entries(VERDICTS).map(([verdict, name]) => {
    const pressed = `${given?.verdict === verdict}`;
    return action(name, () => judged(verdict), { "data-verdict": verdict, "aria-pressed": pressed, class: "plain" });
  });
  place.append(element("div", { class: "row", role: "group", "aria-label": "Was this answer helpful?" }, ...buttons));
  if (given?.comment) place.append(element("p", { class: "muted small" }, given.comment));

  async function judged(verdict) {
    await told(id, { verdict });
    for (const button of buttons) button.setAttribute("aria-pressed", `${button.dataset.verdict === verdict}`);
    place.querySelectorAll("form, p").forEach((old) => old.remove());
    place.append(comment(verdict));
    say("Thank you.");
  }

  function comment(verdict) {
    const name = `comment-${id}`;
    const label =
      verdict === "up" ? "What was good? You may leave this out." : "What is wrong or missing? You may leave this out.";
    const form = element(
      "form",
      {},
      element("label", { for: name }, label),
      element("textarea", { id: name, name: "comment", rows: 2, maxlength: 2000, required: true }),
      element("button", {}, "Send the comment"),
    );
    onSubmit(form, async (filled) => {
      await told(id, { verdict, comment: filled.get("comment") });
      form.replaceWith(element("p", { class: "muted small" }, filled.get("comment")));
      say("Your comment is kept.");
    });
    return form;
  }

  return place;
}

// A question is written down shortly after its answer; whoever judges at once waits for that moment.
async function told(id, verdict) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call("PUT", `/api/v1/questions/${id}/feedback`, verdict);
    } catch (error) {
      if (error.status !== 404 || attempt === TRIES) throw error;
      await pause(500 * attempt);
    }
  }
}

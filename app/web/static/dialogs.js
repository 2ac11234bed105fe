// Questions that the page waits for: whether to go on, and one thing to type.

import { element } from "./shared.js";

export async function confirmed(question, consequence, verb) {
  const answer = await opened(question, [element("p", {}, consequence)], verb, "danger");
  return answer !== null;
}

// What was typed into the field; null when the person thought better of it.
export async function asked(question, name, attributes, verb) {
  const input = element("input", { id: "asked", name: "asked", required: true, ...attributes });
  const answer = await opened(question, [element("label", { for: "asked" }, name), input], verb, "primary");
  return answer?.get("asked") ?? null;
}

function opened(question, parts, verb, kind) {
  const form = element(
    "form",
    { method: "dialog" },
    element("h2", { id: "dialog-title" }, question),
    ...parts,
    element(
      "div",
      { class: "row end" },
      element("button", { type: "button", class: "keep" }, "Cancel"),
      element("button", { class: kind, value: "yes" }, verb),
    ),
  );
  const dialog = element("dialog", { "aria-labelledby": "dialog-title", class: "card" }, form);
  form.querySelector(".keep").addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? new FormData(form) : null);
    });
    dialog.showModal();
  });
}

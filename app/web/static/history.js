// The list of one's earlier conversations; each is a link to it.

import { confirmed } from "./dialogs.js";
import { action, byId, call, element, onePage, pause, say } from "./shared.js";

const PAGE = 30;
let after = "";

export async function showHistory(current) {
  after = "";
  const page = await onePage("/api/v1/conversations", { limit: PAGE });
  fill(page, current, true);
}

// A conversation is written down shortly after its first answer: look again until it is in the list.
export async function awaitInHistory(id) {
  for (let attempt = 1; attempt < 6; attempt += 1) {
    await pause(700 * attempt);
    await showHistory(id);
    if (byId("conversations").querySelector("[aria-current]")) return;
  }
}

function fill(page, current, anew) {
  const items = page.items.map((conversation) => item(conversation, current));
  if (anew) byId("conversations").replaceChildren(...items);
  else byId("conversations").append(...items);
  after = page.next ?? "";
  byId("older").hidden = !after;
  byId("no-conversations").hidden = byId("conversations").children.length > 0;
}

function item(conversation, current) {
  const link = element(
    "a",
    { href: `/?conversation=${conversation.id}`, "aria-current": conversation.id === current ? "page" : null },
    element("span", { class: "title" }, conversation.title),
    element("span", { class: "muted small" }, conversation.collection ?? "its collection is gone"),
  );
  const name = `Delete conversation: ${conversation.title}`;
  const remove = action("×", () => removed(conversation, current), { class: "plain danger", "aria-label": name });
  return element("li", {}, link, remove);
}

async function removed(conversation, current) {
  const consequence = "Its questions and answers go for good.";
  if (!(await confirmed(`Delete “${conversation.title}”?`, consequence, "Delete"))) return;
  await call("DELETE", `/api/v1/conversations/${conversation.id}`);
  if (conversation.id === current) location.assign("/");
  else await showHistory(current);
}

byId("older").addEventListener("click", async () => {
  try {
    const current = new URLSearchParams(location.search).get("conversation");
    fill(await onePage("/api/v1/conversations", { after, limit: PAGE }), current, false);
  } catch (error) {
    say(error.message, true);
  }
});

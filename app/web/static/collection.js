// One collection: adding documents, and the table of those that are there.

import { asked } from "./dialogs.js";
import { byId, call, element, onePage, pause, read, say } from "./shared.js";
import { isEverywhere, isSettled, row, STATES } from "./documents.js";
import { showGrants } from "./grants.js";
import { upload } from "./uploads.js";

const { name, permission } = byId("collection").dataset;
const PATH = `/api/v1/collections/${encodeURIComponent(name)}/documents`;
const PAGE = 50;
const table = byId("documents");
const mayWrite = permission !== "read";
const unsettled = new Set();
let after = "";

function put(document) {
  const made = row(document, mayWrite, (now) => (now ? put(now) : takeAway(document.id)));
  const shown = rowOf(document.id);
  if (shown) shown.replaceWith(made);
  else table.append(made);
  if (isEverywhere(document)) unsettled.delete(document.id);
  else unsettled.add(document.id);
  byId("none").hidden = true;
}

function rowOf(id) {
  return table.querySelector(`[data-document="${CSS.escape(id)}"]`);
}

function takeAway(id) {
  rowOf(id)?.remove();
  unsettled.delete(id);
  byId("none").hidden = table.children.length > 0;
}

async function more() {
  const page = await onePage(PATH, { after, limit: PAGE, state: byId("state").value });
  page.items.forEach(put);
  after = page.next ?? "";
  byId("more").hidden = !after;
  byId("none").hidden = table.children.length > 0;
}

// A new version takes the old one's place in silence, so the list is read anew when one is searchable.
async function fromTheBeginning() {
  after = "";
  const kept = table.children.length;
  table.replaceChildren();
  unsettled.clear();
  do await more();
  while (after && table.children.length < kept);
}

async function watch() {
  for (;;) {
    await pause(2000);
    for (const id of [...unsettled]) {
      await read(`/api/v1/documents/${id}`).then(put, (error) => (error.status === 404 ? takeAway(id) : null));
    }
  }
}

// One after the other, however many uploads end at the same time.
let reading = Promise.resolve();
function settled(document) {
  if (!document || isSettled(document))
    reading = reading.then(fromTheBeginning).catch((error) => say(error.message, true));
  else put(document);
}

function send(files) {
  if (files.length) upload([...files], PATH, byId("uploads"), settled);
}

const drop = byId("drop");
if (drop) {
  drop.files.addEventListener("change", () => {
    send(drop.files.files);
    drop.files.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    send(event.dataTransfer.files);
  });
}

byId("state").append(...Object.entries(STATES).map(([value, words]) => element("option", { value }, words)));
byId("state").addEventListener("change", () => {
  table.replaceChildren();
  settled();
});

byId("delete")?.addEventListener("click", async () => {
  const field = { pattern: name.replaceAll(".", "\\."), autocomplete: "off", autocapitalize: "none" };
  const typed = await asked(
    `Delete ${name} with all its documents?`,
    "This cannot be undone. Type the collection's name",
    field,
    "Delete",
  );
  if (typed !== name) return;
  byId("delete").disabled = true;
  try {
    await call("DELETE", `/api/v1/collections/${encodeURIComponent(name)}`);
    location.assign("/collections");
  } catch (error) {
    byId("delete").disabled = false;
    say(`${error.message} ${error.help ?? ""}`, true);
  }
});

byId("more").addEventListener("click", () => more().catch((error) => say(error.message, true)));

try {
  await more();
  watch();
  if (permission === "manage") await showGrants(name);
} catch (error) {
  say(`${error.message} ${error.help ?? ""}`, true);
}

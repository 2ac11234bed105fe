// The collections with how their documents are, and the form that makes one.

import { byId, bytes, call, element, every, onSubmit, read } from "./shared.js";
import { STATES } from "./documents.js";

const PERMISSIONS = {
  read: "You may read and ask",
  write: "You may add and delete documents",
  manage: "You may add documents and say who else may",
};

function address(name) {
  return `/collections/${encodeURIComponent(name)}`;
}

async function list() {
  const tiles = [];
  for await (const collection of every("/api/v1/collections")) tiles.push(tile(collection));
  byId("collections").replaceChildren(...tiles);
  byId("none").hidden = tiles.length > 0;
}

function tile(collection) {
  const states = Object.entries(collection.documents).filter(([, number]) => number);
  const shown = states.map(([state, number]) =>
    element("span", { class: `state ${state}` }, `${number} ${STATES[state] ?? state}`),
  );
  return element(
    "li",
    { class: "card" },
    element("h2", {}, element("a", { href: address(collection.name) }, collection.name)),
    element("p", { class: "muted small" }, PERMISSIONS[collection.permission] ?? collection.permission),
    element(
      "p",
      { class: "states" },
      ...(shown.length ? shown : [element("span", { class: "muted small" }, "No document yet")]),
    ),
  );
}

async function room() {
  const { documents, bytes: taken, most_documents: most, most_bytes: mostBytes } = await read("/api/v1/me/storage");
  const kept = `${documents}${most ? ` of at most ${most}` : ""} documents`;
  byId("storage").textContent = `You keep ${kept}, ${bytes(taken)}${mostBytes ? ` of at most ${bytes(mostBytes)}` : ""}.`;
}

const form = byId("new");
if (form) onSubmit(form, make);

async function make(filled) {
  await call(
    "POST",
    "/api/v1/collections",
    { name: filled.get("name") },
    { headers: { "Idempotency-Key": crypto.randomUUID() } },
  );
  location.assign(address(filled.get("name")));
}

await Promise.all([list(), room()]);

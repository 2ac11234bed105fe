// The page for questions: one conversation, whose answers stream in.

import { awaitInHistory, showHistory } from "./history.js";
import { byId, call, ProblemError, read, say } from "./shared.js";
import { events } from "./stream.js";
import { newTurn } from "./turn.js";

const form = byId("ask");
const status = byId("status");
const turns = byId("turns");
const REMEMBERED = "rag-collection";

// The turns that were answered, of which the database may not have the last ones yet.
const MOST_SENT = 20;
let answered = [];
let conversation = null;
let stopping = null;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = form.question.value.trim();
  if (stopping || !question) return;
  form.question.value = "";
  ask(form.collection.value, question);
});

form.question.addEventListener("keydown", (event) => {
  // While a word is being composed, as in Japanese, Enter ends the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

byId("stop").addEventListener("click", () => stopping?.abort());

// A conversation keeps to one collection.
form.collection.addEventListener("change", () => {
  localStorage.setItem(REMEMBERED, form.collection.value);
  if (!conversation) return;
  conversation = null;
  answered = [];
  turns.replaceChildren();
  window.history.replaceState(null, "", "/");
  status.textContent = `A new conversation, in ${form.collection.value}.`;
});

async function ask(collection, question) {
  byId("welcome")?.remove();
  const turn = newTurn(question);
  turns.append(turn.article);
  turn.article.scrollIntoView({ block: "start" });
  busy(new AbortController());
  try {
    const known = conversation ? { conversation, previous: answered.slice(-MOST_SENT) } : {};
    await follow(turn, { collection, question, stream: true, ...known });
  } catch (error) {
    status.textContent = "";
    if (error.name === "AbortError") turn.stop();
    else turn.fail(error, () => again(turn, collection, question));
  } finally {
    busy(null);
    form.question.focus({ preventScroll: true });
  }
}

function again(turn, collection, question) {
  if (stopping) return;
  turn.article.remove();
  ask(collection, question);
}

async function follow(turn, asked) {
  status.textContent = "Searching the documents …";
  const response = await call("POST", "/api/v1/questions", asked, { signal: stopping.signal });
  let found = [];
  for await (const { name, data } of events(response)) {
    if (name === "waiting") status.textContent = "Waiting for a free place …";
    if (name === "passages") {
      found = data.passages;
      status.textContent = "Reading what was found …";
    }
    if (name === "token") {
      status.textContent = "Writing …";
      turn.write(data.text);
    }
    if (name === "restart") turn.startAgain();
    if (name === "error") throw new ProblemError(data);
    if (name === "answer") {
      turn.answer(data, found);
      // The draft was shorter: only now there is enough below for the question to stand at the top.
      turn.article.scrollIntoView({ block: "start" });
      keep(asked.question, data);
      status.textContent = told(data);
      return;
    }
  }
  throw new ProblemError({ detail: "The connection ended before the answer did", help: "Ask again" });
}

function keep(question, answer) {
  answered.push({ id: answer.id, question, answer: answer.answer });
  if (conversation) return;
  conversation = answer.conversation;
  window.history.replaceState(null, "", `/?conversation=${conversation}`);
  awaitInHistory(conversation).catch(() => {});
}

async function restore(id) {
  const talk = await read(`/api/v1/conversations/${id}`);
  byId("welcome")?.remove();
  for (const { question, ...answer } of talk.turns) {
    const turn = newTurn(question);
    turn.answer(answer, answer.closest, answer.closest_gone);
    turns.append(turn.article);
    answered.push({ id: answer.id, question, answer: answer.answer });
  }
  turns.lastElementChild?.scrollIntoView({ block: "start" });
  if (choose(talk.collection)) conversation = id;
}

function choose(collection) {
  const there = [...form.collection.options].some((option) => option.value === collection);
  if (there) form.collection.value = collection;
  return there;
}

function told(answer) {
  const sources = answer.citations.length;
  if (!answer.supported) return "Not in the documents.";
  return `Answered, with ${sources} checked ${sources === 1 ? "source" : "sources"}.`;
}

function busy(controller) {
  stopping = controller;
  byId("stop").hidden = !controller;
  byId("send").disabled = Boolean(controller);
  status.classList.toggle("at-work", Boolean(controller));
}

busy(null);
const query = new URLSearchParams(location.search);
const shown = query.get("conversation");
choose(query.get("collection") ?? localStorage.getItem(REMEMBERED));
byId("earlier").open = matchMedia("(min-width: 60rem)").matches;
try {
  await Promise.all([shown ? restore(shown) : null, showHistory(shown)]);
} catch (error) {
  say(`${error.message} ${error.help ?? ""}`, true);
}

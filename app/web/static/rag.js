// The ask page: streams an answer, then shows in its place what the platform could verify.
"use strict";

const ask = document.getElementById("ask");
const upload = document.getElementById("upload");
const answer = document.getElementById("answer");
const text = document.getElementById("text");
const citations = document.getElementById("citations");
const model = document.getElementById("model");

ask.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = ask.querySelector("button");
  button.disabled = true;
  answer.hidden = false;
  text.className = "draft";
  text.textContent = "";
  citations.replaceChildren();
  model.textContent = "";
  try {
    await stream({ collection: ask.collection.value, question: ask.question.value, stream: true });
  } catch (error) {
    failed(error.message);
  } finally {
    button.disabled = false;
  }
});

async function stream(question) {
  const response = await fetch("/api/v1/questions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  });
  if (!response.ok) throw await problem(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let ended = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    waiting += value;
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) ended = handle(block) || ended;
  }
  if (!ended) throw new Error("The connection ended before the answer did. Please ask again.");
}

function handle(block) {
  const name = /^event: (.*)$/m.exec(block)?.[1];
  if (!name) return false;
  const data = JSON.parse(/^data: (.*)$/m.exec(block)[1]);
  if (name === "token") text.textContent += data.text;
  if (name === "restart") text.textContent = "";
  if (name === "error") failed(`${data.detail}. ${data.help}`);
  if (name === "answer") show(data);
  return name === "answer" || name === "error";
}

function show(data) {
  text.className = "";
  text.textContent = data.answer;
  model.textContent = `Written by ${data.model}, checked against the documents.`;
  for (const citation of data.citations) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${citation.url}?quote=${encodeURIComponent(citation.quote)}`;
    link.textContent = [citation.title, citation.section, citation.page && `page ${citation.page}`].filter(Boolean).join(" · ");
    const quote = document.createElement("blockquote");
    quote.textContent = citation.quote;
    item.append(link, quote);
    citations.append(item);
  }
}

function failed(message) {
  text.className = "error";
  text.textContent = message;
}

async function problem(response) {
  if (response.status === 401) location.assign("/sign-in");
  const body = await response.json().catch(() => ({ detail: response.statusText, help: "" }));
  return new Error(`${body.detail}. ${body.help}`);
}

upload.addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const file of upload.file.files) {
    const item = document.createElement("li");
    item.textContent = `${file.name}: uploading`;
    document.getElementById("uploads").append(item);
    follow(file, item).catch((error) => { item.textContent = `${file.name}: ${error.message}`; });
  }
});

async function follow(file, item) {
  const body = new FormData();
  body.append("file", file);
  const path = `/api/v1/collections/${encodeURIComponent(ask.collection.value)}/documents`;
  let response = await fetch(path, { method: "POST", body });
  for (;;) {
    if (!response.ok) throw await problem(response);
    const found = await response.json();
    item.textContent = `${file.name}: ${found.state}${found.error ? ` – ${found.error}` : ""}`;
    if (found.state === "indexed" || found.state === "failed") return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    response = await fetch(`/api/v1/documents/${found.id}`);
  }
}

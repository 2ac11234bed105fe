// Files on their way: how much of each has arrived, and then how far it is read and indexed.

import { action, element, pause, problemBox, problemOf, read, unreachable } from "./shared.js";
import { isSettled, stateOf } from "./documents.js";

const AT_A_TIME = 2;
const TRIES = 4;

// Send the files, a few at a time, each with a line in the list; ``settled`` is called with each document at its end.
export function upload(files, path, list, settled) {
  const waiting = files.map((file) => ({ file, line: newLine(file, list) }));
  const sender = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await sent(next.file, next.line, path, settled);
  };
  for (let number = 0; number < AT_A_TIME; number += 1) sender();
}

function newLine(file, list) {
  const state = element("span", { class: "muted" }, "waits for its turn");
  const bar = element("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
  const body = element("div", {}, bar);
  const item = element(
    "li",
    {},
    element("div", { class: "row between" }, element("strong", {}, file.name), state),
    body,
  );
  list.append(item);
  return { item, state, bar, body };
}

async function sent(file, line, path, settled) {
  // The same key with each try: whether the first one arrived or not, it is one document.
  const key = crypto.randomUUID();
  line.body.replaceChildren(line.bar);
  try {
    const document = await persistent(() => post(file, path, key, line), line);
    line.bar.removeAttribute("value");
    follow(document, line).then(settled, (error) => failed(error, line));
    settled(document);
  } catch (error) {
    const again = action("Try again", () => sent(file, line, path, settled), {
      "aria-label": `Try again: ${file.name}`,
    });
    failed(error, line, again);
  }
}

function failed(error, line, ...more) {
  line.state.replaceChildren("not uploaded");
  line.body.replaceChildren(problemBox(error, ...more));
}

// What passes by itself is waited for: a database that changes its primary, or a minute in which one sent too much.
async function persistent(work, line) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt === TRIES || ![0, 429, 503].includes(error.status)) throw error;
      line.state.replaceChildren(error.status === 429 ? "waits for its turn" : "waits for the platform");
      await pause(1000 * Math.max(error.retryAfter, 2 ** attempt));
    }
  }
}

// XMLHttpRequest, since fetch does not tell how much of a body has been sent.
function post(file, path, key, line) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file);
    request.upload.addEventListener("progress", (event) => {
      line.bar.max = event.total;
      line.bar.value = event.loaded;
      const share = Math.floor((100 * event.loaded) / (event.total || 1));
      line.state.replaceChildren(share < 100 ? `${share} % sent` : "sent, being stored");
    });
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("load", async () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else
        reject(
          await problemOf(request.status, request.getResponseHeader("Retry-After"), () =>
            JSON.parse(request.responseText),
          ),
        );
    });
    request.open("POST", path);
    request.setRequestHeader("Idempotency-Key", key);
    request.send(body);
  });
}

async function follow(document, line) {
  let now = document;
  for (let wait = 500; ; wait = Math.min(wait * 1.5, 5000)) {
    line.state.replaceChildren(...stateOf(now));
    if (isSettled(now)) {
      line.bar.remove();
      return now;
    }
    if (now.progress?.total) {
      line.bar.max = now.progress.total;
      line.bar.value = now.progress.done;
    }
    await pause(wait);
    now = await persistent(() => read(`/api/v1/documents/${document.id}`), line);
  }
}

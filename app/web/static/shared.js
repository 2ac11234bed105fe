// What every page uses: calls of the API, problems in words, and elements made without markup.

// The API tells programs which call helps; people have a page for it.
const PAGES = [
  ["GET /health/ready", "the page Health"],
  ["GET /api/v1/collections", "the page Documents"],
];

export class ProblemError extends Error {
  constructor(problem) {
    super(sentence(problem.detail));
    this.status = problem.status;
    this.help = sentence(PAGES.reduce((text, [call, page]) => text.replace(call, page), problem.help ?? ""));
    this.requestId = problem.request_id ?? "";
    this.retryAfter = problem.retry_after ?? 0;
  }
}

const UNREACHABLE = {
  status: 0,
  detail: "The platform does not answer",
  help: "Look at your network, then try again in a moment",
};

export async function call(method, path, body, options = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const sent = { method, headers: { ...headers, ...options.headers }, signal: options.signal };
  if (body !== undefined) sent.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, sent);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError(UNREACHABLE);
  }
  if (!response.ok) throw await problemOf(response.status, response.headers.get("Retry-After"), () => response.json());
  return response;
}

export async function read(path, options) {
  return (await call("GET", path, undefined, options)).json();
}

// The problem that a response tells; whoever is no longer signed in is sent to do so, and comes back to this page.
export async function problemOf(status, retryAfter, body) {
  if (status === 401) location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  const fallback = { ...UNREACHABLE, status, detail: `The platform answers ${status}` };
  const told = await Promise.resolve()
    .then(body)
    .catch(() => fallback);
  return new ProblemError({ ...(told.detail ? told : fallback), retry_after: Number(retryAfter) || 0 });
}

export function unreachable() {
  return new ProblemError(UNREACHABLE);
}

// The items of a list, page after page, as they come.
// As many as the API gives in one page.
const MOST = 500;

export async function* every(path, query = {}) {
  let after = "";
  do {
    const page = await onePage(path, { limit: MOST, ...query, after });
    yield* page.items;
    after = page.next;
  } while (after);
}

export async function onePage(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return read(given.length ? `${path}?${new URLSearchParams(given)}` : path);
}

// Text stays text: whatever a document is named, it cannot become markup.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

export function problemBox(error, ...more) {
  if (!(error instanceof ProblemError)) console.error(error);
  const told =
    error instanceof ProblemError
      ? error
      : new ProblemError({ detail: `This page: ${error.message}`, help: "Load it again" });
  const number = told.requestId && element("small", { class: "muted" }, `Request ${told.requestId}`);
  return element(
    "div",
    { class: "problem", role: "alert" },
    element("p", {}, `${told.message} ${told.help}`),
    ...more,
    number || null,
  );
}

// Do the work of a form when it is sent; its problems are told at its end, and go with the next try.
export function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = [...form.querySelectorAll("button")];
    form.querySelector(".problem")?.remove();
    for (const button of buttons) button.disabled = true;
    try {
      await work(new FormData(form));
    } catch (error) {
      form.append(problemBox(error));
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  });
}

// A button that does its work once at a time, and tells its problem where the page's status is read.
export function action(name, work, attributes = {}) {
  const button = element("button", { type: "button", ...attributes }, name);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      say(`${error.message} ${error.help ?? ""}`, true);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

// The line of news at the page's foot, read out by screen readers; it goes after a while, a problem stays longer.
let forgetting = 0;
export function say(text, bad = false) {
  let line = byId("news");
  if (!line) {
    line = element("p", { id: "news", role: "status" });
    document.body.append(line);
  }
  line.classList.toggle("bad", bad);
  line.textContent = text;
  clearTimeout(forgetting);
  forgetting = setTimeout(
    () => {
      line.textContent = "";
    },
    bad ? 20000 : 6000,
  );
}

export function moment(written) {
  const shown = new Date(written).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return element("time", { datetime: written }, shown);
}

export function bytes(number) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  let left = number;
  for (; left >= 1000 && unit < units.length - 1; unit += 1) left /= 1000;
  return `${unit && left < 10 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

export function pause(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}

export async function copied(text, button) {
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = before;
  }, 2000);
}

function sentence(text) {
  const trimmed = `${text ?? ""}`.trim();
  if (!trimmed) return "";
  const begun = trimmed[0].toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

// Server-sent events out of a response, one after the other.

import { ProblemError } from "./shared.js";

export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError({ detail: "The connection ended before the answer did", help: "Ask again" });
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A block without a name is the heartbeat of a stream that is silent.
function parsed(block) {
  const name = /^event: (.*)$/m.exec(block)?.[1];
  const data = /^data: (.*)$/m.exec(block)?.[1];
  return name ? { name, data: JSON.parse(data) } : null;
}

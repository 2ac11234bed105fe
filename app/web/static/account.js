// One's own account.

import { byId, call, onSubmit, read, say } from "./shared.js";

async function about() {
  const { role, groups } = await read("/api/v1/me");
  byId("about").textContent = `Role ${role}${groups?.length ? `, in ${groups.join(", ")}` : ""}`;
}

onSubmit(byId("password"), async (form) => {
  await call("PUT", "/api/v1/me/password", { current: form.get("current"), new: form.get("new") });
  byId("password").reset();
  say("Your password is changed.");
});

about().catch(() => {});

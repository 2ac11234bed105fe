// A real provider, certified for OpenID Connect, on loopback: what the tests sign in at. Its people, and what is done to
// its tokens on their way, the tests set at /test.

import { readFileSync } from "node:fs";
import { createServer } from "node:https";

const given = JSON.parse(readFileSync(process.argv[2], "utf8"));
const load = (name) => import(`${given.modules}/${name}`);
const { default: Provider } = await load("oidc-provider/lib/index.js");
const jose = await load("jose/dist/node/esm/index.js");

const pair = await jose.generateKeyPair("RS256", { extractable: true });
const stranger = await jose.generateKeyPair("RS256");
const kid = `key-${process.pid}`;
const test = { people: {}, tamper: null };
const asked = {};

const provider = new Provider(given.issuer, {
  clients: [
    {
      client_id: given.client_id,
      client_secret: given.client_secret,
      redirect_uris: [`${given.platform}/sign-in/oidc/callback`],
      post_logout_redirect_uris: [`${given.platform}/sign-in`],
    },
  ],
  jwks: { keys: [{ ...(await jose.exportJWK(pair.privateKey)), kid, use: "sig", alg: "RS256" }] },
  cookies: { keys: ["a key of the tests"] },
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email", "email_verified"] },
  features: {
    devInteractions: { enabled: false },
    rpInitiatedLogout: {
      logoutSource(ctx, form) {
        ctx.body = `<!doctype html><html lang="en"><title>Provider</title><h1>Sign out of the provider?</h1>${form}
<button form="op.logoutForm" name="logout" value="yes">Yes</button></html>`;
      },
    },
  },
  pkce: { methods: ["S256"], required: () => true },
  findAccount: (_, id) =>
    id in test.people ? { accountId: id, claims: () => ({ sub: id, ...test.people[id] }) } : undefined,
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  // Nobody is asked whether the platform may know who they are.
  async loadExistingGrant(ctx) {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope("openid profile email");
    await grant.save();
    return grant;
  },
});

async function body(request) {
  let text = "";
  for await (const piece of request) text += piece;
  return text;
}

const PAGE = `<!doctype html><html lang="en"><title>Provider</title><meta name="color-scheme" content="light dark">
<h1>The provider</h1><form method="post"><label>Person <input name="login"></label>
<button>Enter</button> <button name="abort" value="1">Give up</button></form></html>`;

async function forged(id_token) {
  const claims = jose.decodeJwt(id_token);
  const header = { alg: "RS256", kid, ...test.tamper.header };
  const changed = { ...claims, ...test.tamper.claims };
  if (test.tamper.key === "none")
    return `${jose.base64url.encode('{"alg":"none"}')}.${jose.base64url.encode(JSON.stringify(changed))}.`;
  if (test.tamper.key === "secret")
    return new jose.SignJWT(changed)
      .setProtectedHeader({ ...header, alg: "HS256" })
      .sign(new TextEncoder().encode(given.client_secret));
  const key = test.tamper.key === "stranger" ? stranger.privateKey : pair.privateKey;
  return new jose.SignJWT(changed).setProtectedHeader(header).sign(key);
}

provider.use(async (ctx, next) => {
  if (ctx.path === "/test") {
    Object.assign(test, JSON.parse(await body(ctx.req)));
    ctx.body = asked;
    return;
  }
  asked[ctx.path] = (asked[ctx.path] ?? 0) + 1;
  if (ctx.path.startsWith("/interaction/")) {
    if (ctx.method === "GET") {
      ctx.type = "html";
      ctx.body = PAGE;
      return;
    }
    const form = new URLSearchParams(await body(ctx.req));
    const result = form.get("abort")
      ? { error: "access_denied", error_description: "given up" }
      : { login: { accountId: form.get("login") } };
    ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result));
    ctx.status = 303;
    return;
  }
  await next();
  if (ctx.oidc?.route === "token" && ctx.body?.id_token && test.tamper) ctx.body.id_token = await forged(ctx.body.id_token);
});

createServer({ key: readFileSync(given.key), cert: readFileSync(given.certificate) }, provider.callback()).listen(
  given.port,
  "127.0.0.1",
);

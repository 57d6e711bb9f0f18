// Signs in: by an API key, or at an OpenID Connect provider by the code flow with PKCE. Behind a proxy that adds
// credentials by itself, nothing of this is seen.

import { get, post } from "./api.js";
import { credential, forgetCredential, keepCredential } from "./credentials.js";
import { announce, button, byId, fill, h } from "./dom.js";

const LEFT = "penstock.signing-in"; // what this tab left with to the provider

/** The dialog, and the button that signs out. `app` has `again` and `live`. */
export class SignIn {
  constructor(app) {
    this.app = app;
    this.dialog = byId("sign-in");
    this.leave = byId("sign-out");
    this.leave.addEventListener("click", () => this.signOut());
    addEventListener("unauthenticated", () => this.open());
    addEventListener("sign-in", () => this.open());
    this.draw();
    if (SignIn.problem) this.open(SignIn.problem);
  }

  /** Shows the button where there is something to sign out of. */
  draw() {
    this.leave.hidden = credential() === null;
  }

  signOut() {
    forgetCredential({ everything: true });
    location.assign(location.pathname);
  }

  /** Opens the dialog with the ways that this server has. */
  async open(problem = null) {
    this.draw();
    if (this.dialog.open || this.opening) return;
    this.opening = true;
    try {
      this.show(await get("v1/sign-in"), problem);
    } catch {
      // The server does not answer: the page says so.
    } finally {
      this.opening = false;
    }
  }

  show(ways, problem) {
    this.say = h("p", { className: "hint", role: "alert" }, problem);
    const { provider } = ways;
    fill(
      this.dialog,
      h("div", { className: "head" }, h("h2", { id: "sign-in-title" }, "Sign in"), button("", { icon: "close", className: "tool", ariaLabel: "Close", on: () => this.dialog.close() })),
      provider && this.providerButton(provider),
      ways.keys && this.keyForm(),
      !ways.keys && !provider && h("p", {}, "This server takes tokens that a proxy in front of it adds. This request had none."),
      this.say,
      h("p", { className: "hint" }, "It holds for this tab, until it is closed."),
      h("div", { className: "quiet", role: "status" }),
    );
    this.dialog.showModal();
  }

  providerButton(provider) {
    const host = provider.authorization_endpoint && new URL(provider.authorization_endpoint).host;
    if (!host) return h("p", { className: "hint" }, "The sign-in at the provider is not available at the moment.");
    if (!crypto.subtle) return h("p", { className: "hint" }, `The sign-in at ${host} needs this page by https.`);
    return h("p", {}, button(`Sign in at ${host}`, { className: "button primary", on: () => goToProvider(provider) }));
  }

  keyForm() {
    const key = h("input", { id: "api-key", type: "password", autocomplete: "off", spellcheck: false, required: true, maxLength: 16_384 });
    const submit = async (event) => {
      event.preventDefault();
      await this.tryKey(key.value.trim());
    };
    return h("form", { className: "key-form", on: { submit } }, h("label", { htmlFor: "api-key" }, "API key"), h("div", { className: "line" }, key, h("button", { type: "submit", className: "button" }, "Use it")));
  }

  async tryKey(value) {
    if (!/^[!-~]+$/.test(value)) return this.tell("This is no API key.");
    keepCredential(value);
    let ways = null;
    try {
      ways = await get("v1/sign-in");
    } catch (error) {
      forgetCredential();
      return this.tell(error.message);
    }
    if (!ways.signed_in) {
      forgetCredential();
      return this.tell("This key is not valid, or not any more.");
    }
    this.dialog.close();
    this.draw();
    announce("Signed in");
    this.app.live.resume();
    this.app.add.offer();
    return this.app.again();
  }

  tell(words) {
    this.say.textContent = words;
  }
}

/** Leaves for the provider. What proves afterwards that this tab left stays in it. */
async function goToProvider({ authorization_endpoint: endpoint, client_id: client, scopes }) {
  const [verifier, state] = [random(), random()];
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  sessionStorage.setItem(LEFT, JSON.stringify({ verifier, state, search: location.search }));
  const url = new URL(endpoint);
  const parameters = { response_type: "code", client_id: client, scope: scopes, redirect_uri: pageAddress(), state, code_challenge: base64url(new Uint8Array(digest)), code_challenge_method: "S256" };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  location.assign(url.href);
}

/** Takes a user in whom the provider sent back, before the page reads its address. */
export async function takeBack() {
  const answer = new URLSearchParams(location.search);
  const state = answer.get("state");
  if (state === null || !(answer.has("code") || answer.has("error"))) return;
  const left = taken();
  history.replaceState(null, "", left?.search || location.pathname);
  if (left === null || left.state !== state) {
    SignIn.problem = "This sign-in was not begun in this tab.";
    return;
  }
  if (answer.has("error")) {
    SignIn.problem = "The provider did not sign you in.";
    return;
  }
  try {
    const { token } = await post("v1/sign-in/token", { code: answer.get("code"), code_verifier: left.verifier, redirect_uri: pageAddress() });
    keepCredential(token);
  } catch (error) {
    SignIn.problem = error.message;
  }
}

function taken() {
  try {
    const left = JSON.parse(sessionStorage.getItem(LEFT));
    sessionStorage.removeItem(LEFT);
    return left;
  } catch {
    return null;
  }
}

const pageAddress = () => location.origin + location.pathname;
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

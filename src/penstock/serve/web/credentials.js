// The credentials of this tab: an API key, or a token of the OpenID Connect provider. They are kept in sessionStorage,
// which no other site, port, program or tab reads and which ends with the tab; a cookie would go to every port of the
// host, and to forged requests of other pages of its site.

const KEY = "penstock.credential";
let memory = null; // where storage is forbidden

/** Returns the credential of this tab; null without one. */
export function credential() {
  try {
    return sessionStorage.getItem(KEY) ?? memory;
  } catch {
    return memory;
  }
}

/** Keeps a credential for this tab. */
export function keepCredential(value) {
  memory = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // It lasts until the page is left.
  }
}

/** Forgets the credential. `everything`: and what was seen with it, such as titles and images. */
export function forgetCredential({ everything = false } = {}) {
  memory = null;
  try {
    if (everything) sessionStorage.clear();
    else sessionStorage.removeItem(KEY);
  } catch {
    // There is nothing.
  }
}

/** The headers of a request with the credential of this tab. */
export function authorization() {
  const value = credential();
  return value === null ? {} : { Authorization: `Bearer ${value}` };
}

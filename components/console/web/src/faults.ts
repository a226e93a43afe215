import { words } from "./words.js";

/** Shows errors that no handler has caught, so that a button that fails does not just do nothing. */
export function showFaults(at: HTMLElement): void {
  const show = (error: unknown): void => {
    at.textContent = `The page has an error: ${words(error)}`;
    at.hidden = false;
  };
  addEventListener("error", ({ error, message }) => show(error ?? message));
  addEventListener("unhandledrejection", ({ reason }) => show(reason));
}

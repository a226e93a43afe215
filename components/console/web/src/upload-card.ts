import type { Position } from "./nodes.js";
import type { Showing } from "./uploads.js";

/** A card in the place of a node whose picture is still on its way to the server. Only this page shows it. */
export class UploadCard implements Showing {
  readonly element = document.createElement("article");
  readonly #status = document.createElement("span");
  readonly #error = document.createElement("p");
  readonly #again = document.createElement("button");
  readonly #frame = document.createElement("div");
  #retry: (() => void) | undefined;

  constructor(name: string, { x, y }: Position, letGo: () => void) {
    this.element.className = "node upload";
    this.element.dataset["testid"] = "upload";
    this.element.setAttribute("aria-label", `Upload of ${name}`);
    this.element.style.left = `${x}px`;
    this.element.style.top = `${y}px`;
    const title = document.createElement("strong");
    title.textContent = title.title = name;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.dataset["testid"] = "upload-let-go";
    remove.setAttribute("aria-label", `Do not upload ${name}`);
    remove.addEventListener("click", letGo);
    const head = document.createElement("div");
    head.className = "node-head";
    head.append(title, remove);
    this.#status.className = "node-status";
    this.#status.setAttribute("role", "status");
    this.#error.className = "node-error";
    this.#error.dataset["testid"] = "upload-error";
    this.#error.setAttribute("role", "alert");
    this.#again.className = "node-retry";
    this.#again.type = "button";
    this.#again.textContent = "Try again";
    this.#again.dataset["testid"] = "upload-again";
    this.#again.addEventListener("click", () => this.#retry?.());
    this.#frame.className = "node-frame";
    this.element.append(head, this.#status, this.#error, this.#again, this.#frame);
    this.sending();
  }

  sending(): void {
    this.#show("uploading", undefined);
  }

  failed(reason: string, again: () => void): void {
    this.#retry = again;
    this.#show("not uploaded", reason);
  }

  end(): void {
    this.element.remove();
  }

  #show(status: string, reason: string | undefined): void {
    const failed = reason !== undefined;
    this.#status.textContent = status;
    this.#status.dataset["status"] = failed ? "failed" : "processing";
    this.#error.hidden = this.#again.hidden = !failed;
    this.#error.textContent = reason ?? "";
    this.#frame.hidden = failed;
    this.#frame.classList.toggle("busy", !failed);
  }
}

/** The events of a browser's network. */
export interface NetworkListener {
  /** Handles a browser that is back on the network (`online`) or in the foreground. */
  back(online: boolean): void;
  /** Handles a browser that reports that it is off the network. */
  gone(): void;
}

/** Listens to the browser's network events; elsewhere it does nothing. Returns a function that removes the listeners. */
export function watchNetwork({ back, gone }: NetworkListener): () => void {
  const { window, document } = globalThis as { window?: EventTarget; document?: Document };
  const ends: (() => void)[] = [];
  const listen = (target: EventTarget | undefined, name: string, listener: () => void): void => {
    target?.addEventListener?.(name, listener);
    ends.push(() => target?.removeEventListener?.(name, listener));
  };
  listen(window, "online", () => back(true));
  listen(window, "offline", gone);
  listen(document, "visibilitychange", () => document?.visibilityState === "visible" && back(false));
  return () => {
    for (const end of ends) end();
  };
}

/** What a browser tells of its network. */
export interface NetworkListener {
  /** Back on the network (`online`), or back in the foreground: a reason to look at once. */
  back(online: boolean): void;
  /** The browser says that it is off the network. */
  gone(): void;
}

/** Listens to a browser; elsewhere it does nothing. Returns a function that ends it. */
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

/** The listeners of each event, by the name of the event. */
export class Listeners<Events> {
  readonly #all = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` at each event of this name. Returns a function that removes the listener. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const listeners = this.#all.get(name) ?? new Set();
    this.#all.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Calls the listeners. If one throws, its error is reported as uncaught, and the others are called all the same. */
  tell<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#all.get(name) ?? [])] as ((event: Events[Name]) => void)[]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  /** Forgets all listeners. */
  clear(): void {
    this.#all.clear();
  }
}

import type { Connection, Status } from "../src/index.js";

/** Waits for a status that fulfils the condition, at most 10 seconds. */
export function until(connection: Connection, what: string, holds: (status: Status) => boolean): Promise<Status> {
  return new Promise((resolve, reject) => {
    const finish = (act: () => void): void => {
      clearTimeout(timer);
      stop();
      act();
    };
    const timer = setTimeout(
      () => finish(() => reject(new Error(`not within 10 s: ${what}; it is ${JSON.stringify(connection.status)}`))),
      10_000,
    );
    const look = (status: Status): void => {
      if (holds(status)) finish(() => resolve(status));
    };
    const stop = connection.on("status", look);
    look(connection.status);
  });
}

/** Waits for a condition that changes without a status, at most 10 seconds. */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 2_000; turn += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`not within 10 s: ${what}`);
}

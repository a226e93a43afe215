// A cable between browser and server that the tests can unplug.
import { connect, createServer } from "node:net";

export class Cable {
  #server;
  #ends = new Set();
  #cut = false;

  /** Starts a cable to the address; the browser connects to `cable.address`. */
  static async to({ hostname, port }) {
    const cable = new Cable();
    cable.#server = createServer((near) => {
      if (cable.#cut) {
        near.destroy();
        return;
      }
      const far = connect(Number(port), hostname);
      near.pipe(far).pipe(near);
      for (const [end, other] of [
        [near, far],
        [far, near],
      ]) {
        cable.#ends.add(end);
        end.on("error", () => {});
        end.on("close", () => {
          cable.#ends.delete(end);
          other.destroy();
        });
      }
    });
    await new Promise((resolve) => cable.#server.listen(0, "127.0.0.1", resolve));
    cable.address = new URL(`http://127.0.0.1:${cable.#server.address().port}`);
    return cable;
  }

  /** Unplugs it: connections break, and new ones fail. */
  cut() {
    this.#cut = true;
    for (const end of this.#ends) end.destroy();
  }

  /** Plugs it in again. */
  mend() {
    this.#cut = false;
  }

  /** Ends it. */
  async close() {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

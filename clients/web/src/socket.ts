/** The part of the WebSocket interface that the client uses. Browsers, Node (from 22 on) and the package `ws` have it. */
export interface SocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array): void;
  close(code?: number, reason?: string): void;
}

/** Opens a WebSocket. */
export type SocketConstructor = new (url: string) => SocketLike;

/**
 * Returns the given constructor, or the platform's own.
 *
 * @throws TypeError if there is neither
 */
export function socketConstructor(given: SocketConstructor | undefined): SocketConstructor {
  const found = given ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
  if (!found) {
    throw new TypeError('this platform has no WebSocket: npm install ws, import WebSocket from "ws" and pass { WebSocket }');
  }
  return found;
}

/**
 * Abandons a socket whose peer does not answer. Closing waits for the peer's own close frame, so the handlers are
 * removed first, and later messages do not reach the connection.
 */
export function abandon(socket: SocketLike & { terminate?: () => void }): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  // The package `ws` throws if an error has no listener.
  socket.onerror = () => {};
  if (socket.terminate) socket.terminate();
  else socket.close();
}

/** Closes a socket properly: the close frame follows everything that was sent before. */
export function hangUp(socket: SocketLike): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.onerror = () => {};
  socket.close(1000);
}

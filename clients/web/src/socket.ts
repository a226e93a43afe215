/** The part of the WebSocket interface that is used: a browser's, Node's (from 22 on) and the package `ws` all have it. */
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

/** The given constructor, or the platform's own. */
export function socketConstructor(given: SocketConstructor | undefined): SocketConstructor {
  const found = given ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
  if (!found) {
    throw new TypeError('no WebSocket here: npm install ws, import WebSocket from "ws" and pass { WebSocket }');
  }
  return found;
}

/**
 * Lets go of a socket whose peer does not answer. Closing waits for the peer's own close frame, so nothing
 * that it still says may reach the connection.
 */
export function abandon(socket: SocketLike & { terminate?: () => void }): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  // The package `ws` throws an error that nobody listens to.
  socket.onerror = () => {};
  if (socket.terminate) socket.terminate();
  else socket.close();
}

/** Closes a socket in good order: the close frame goes out after everything that was sent before. */
export function hangUp(socket: SocketLike): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.onerror = () => {};
  socket.close(1000);
}

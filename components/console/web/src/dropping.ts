/** The elements of the page that take part when files come. */
export interface DropElements {
  readonly board: HTMLElement;
  /** Shows why files were not taken. */
  readonly error: HTMLElement;
}

/** Takes the files of a drop or a paste; `at` is the event of a drop onto the board. Throws if it does not take them. */
export type Take = (files: readonly File[], at?: MouseEvent) => void;

/** Takes files that are dropped or pasted anywhere on the page. A browser would otherwise leave the page for a dropped one. */
export function takeFiles({ board, error }: DropElements, take: Take, words: (error: unknown) => string): void {
  const given = (files: FileList, at?: MouseEvent): void => {
    board.classList.remove("dropping");
    error.hidden = true;
    try {
      // The list is emptied when the event is over.
      take([...files], at);
    } catch (reason) {
      error.textContent = words(reason);
      error.hidden = false;
    }
  };
  const isOnBoard = ({ target }: Event): boolean => target instanceof Node && board.contains(target);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    board.classList.toggle("dropping", isOnBoard(event));
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) board.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    given(event.dataTransfer.files, isOnBoard(event) ? event : undefined);
  });
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (!files || files.length === 0) return;
    // Office programs put a picture of a text beside it, and a user who is writing means the text.
    const isWriting = event.target instanceof Element && event.target.matches("input, textarea");
    if (isWriting && event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    given(files);
  });
}

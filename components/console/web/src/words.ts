/** Describes an error in words for a user. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

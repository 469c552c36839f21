/** What the store was asked for contradicts what it holds; nothing was written. */
export class StoreConflict extends Error {
  override readonly name = "StoreConflict";
}

/** An attestor was asked to sign a second digest for one sequence of a lane. */
export class Equivocation extends StoreConflict {}

/** The pieces of an answer, up to a length that it shouldn't have. Throws beyond: who answers isn't to be trusted. */
export async function* piecesOf(response: Response, mostBytes: number): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const piece of response.body ?? []) {
    length += piece.length;
    if (length > mostBytes) throw new Error(`${response.url} answered over ${mostBytes} bytes`);
    yield piece;
  }
}

/** An answer's text. Throws if it is too long. */
export async function textOf(response: Response, mostBytes: number): Promise<string> {
  const pieces = [];
  for await (const piece of piecesOf(response, mostBytes)) pieces.push(piece);
  return Buffer.concat(pieces).toString("utf8");
}

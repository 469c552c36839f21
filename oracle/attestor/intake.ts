import type { FastifyReply, FastifyRequest } from "fastify";

/** An attestor doesn't read a request's body. The status says whether it ever would. */
class IntakeRefused extends Error {
  constructor(
    readonly statusCode: number,
    message: string,
  ) {
    super(message);
  }
}

/** How much of requests' bodies may be read at once, so that no number of them fills the memory. */
export class Intake {
  private taken = 0;

  constructor(private readonly most: number) {}

  /**
   * Takes up what a request says that it will send, until it was answered or given up.
   * @throws IntakeRefused
   */
  admit(request: FastifyRequest, reply: FastifyReply): void {
    const giveBack = this.take(request.headers["content-length"]);
    if (reply.raw.closed) giveBack();
    else reply.raw.once("close", giveBack);
  }

  /**
   * Takes up as much as a request says that it will send, until the function that it gives is called.
   * @throws IntakeRefused
   */
  take(contentLength: string | undefined): () => void {
    const bytes = Number(contentLength);
    if (!Number.isSafeInteger(bytes)) throw new IntakeRefused(411, "Say how long the request is, by content-length");
    if (bytes > this.most) {
      throw new IntakeRefused(413, `The request has ${bytes} bytes; ${this.most} are the most: make batches smaller`);
    }
    if (this.taken + bytes > this.most) {
      throw new IntakeRefused(429, `${this.taken} bytes of other requests are being read: try again soon`);
    }
    this.taken += bytes;
    return () => void (this.taken -= bytes);
  }
}

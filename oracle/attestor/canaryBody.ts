/** What canaries ask: as many kinds of requests as clients make, so that none is known by its form. */
import type { CanaryConfig } from "./canary";
import { classificationBody } from "./classificationCanary";

/** How often an answer is streamed: whole ones count for availability only. */
const STREAMED = 0.75;

/** A request, and whether its answer will be a stream. */
export function canaryBody(
  {
    modelId,
    maxTokens,
    prompts,
    classification,
  }: Pick<CanaryConfig, "modelId" | "maxTokens" | "prompts" | "classification">,
  random: () => number,
): { body: string; isStreamed: boolean } {
  if (classification !== undefined) {
    return { body: classificationBody(modelId, classification, random), isStreamed: false };
  }
  const isStreamed = random() < STREAMED;
  const prompt = prompts === undefined ? randomPrompt(random) : oneOf(prompts, random);
  const system = random() < 0.3 ? [{ role: "system", content: oneOf(SYSTEMS, random) }] : [];
  const body = JSON.stringify({
    model: modelId,
    messages: [...system, { role: "user", content: prompt }],
    max_tokens: Math.max(1, Math.ceil(maxTokens * (0.5 + random() / 2))),
    ...(random() < 0.5 ? { temperature: Math.round(random() * 10) / 10 } : {}),
    ...(isStreamed ? { stream: true } : {}),
    ...(isStreamed && random() < 0.4 ? { stream_options: { include_usage: true } } : {}),
  });
  return { body, isStreamed };
}

const SYSTEMS = [
  "You are a helpful assistant.",
  "Answer briefly.",
  "You are an expert. Be precise.",
  "Reply in plain language, without lists.",
  "You help people with everyday questions.",
];

const SUBJECTS = [
  ...["a license", "a warranty", "the public domain", "a patent", "copyright", "a trademark", "attribution"],
  ...["photosynthesis", "a hash function", "inflation", "the tides", "sourdough", "compound interest", "gravity"],
  ...["a bicycle's gears", "the French Revolution", "binary search", "vaccines", "plate tectonics", "a sonnet"],
  ...["a mortgage", "recursion", "the water cycle", "chess openings", "migraine", "a merge conflict", "jet lag"],
];
const QUALIFIERS = [
  ...["in one sentence", "to a child", "with an example", "in plain words", "as briefly as you can"],
  ...["as a teacher would", "for somebody in a hurry", "without jargon", "in two short paragraphs", "step by step"],
];
const CONTEXTS = [
  ...[
    "I have an exam tomorrow.",
    "My daughter asked me this.",
    "It came up at work today.",
    "I'm writing a blog post.",
  ],
  ...["English isn't my first language.", "I've read the article on it and am still lost.", "This is for a slide."],
  ...["Please be honest if you aren't sure.", "Thanks in advance!", "No need to be formal."],
];
const ASKS: ((subject: string, how: string) => string)[] = [
  (subject, how) => `Explain ${subject} ${how}.`,
  (subject, how) => `What is ${subject}? Answer ${how}`,
  (subject, how) => `can you tell me about ${subject}, ${how}`,
  (subject) => `Write a short note about ${subject}.`,
  (subject) => `What are the most common mistakes people make with ${subject}?`,
  (subject) => `Give me three facts about ${subject}`,
  (subject, how) => `How would you describe ${subject} ${how}?`,
  (subject) => `Why does ${subject} matter?`,
  (subject) => `Translate into German: "I know little about ${subject}."`,
  (subject) => `Suggest a title for an essay on ${subject}`,
  (subject, how) => `${capitalised(subject)}: sum it up ${how}.`,
  (subject) => `Continue this text: When I first heard of ${subject}, I`,
];

function randomPrompt(random: () => number): string {
  const ask = oneOf(ASKS, random)(oneOf(SUBJECTS, random), oneOf(QUALIFIERS, random));
  const place = random();
  if (place < 0.35) return `${oneOf(CONTEXTS, random)} ${ask}`;
  return place < 0.6 ? `${ask} ${oneOf(CONTEXTS, random)}` : ask;
}

function oneOf<T>(choices: readonly T[], random: () => number): T {
  return choices[Math.floor(random() * choices.length)];
}

function capitalised(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}

/** How long a process lives, in calls to what it depends on. */
export interface Life {
  callsLeft: number;
  /** Whether the last call still has its effect, and only its answer is lost. */
  lastCallHappens: boolean;
  isOver: boolean;
}

export function lifeOf(calls: number, lastCallHappens: boolean): Life {
  return { callsLeft: calls, lastCallHappens, isOver: false };
}

/** The target for a process that dies at the end of its life: from then on every call throws and has no effect. */
export function mortal<T extends object>(target: T, life: Life): T {
  return new Proxy(target, {
    get(of, name) {
      const member = Reflect.get(of, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        if (life.isOver) throw new Error("the process is dead");
        life.isOver = --life.callsLeft <= 0;
        if (!life.isOver) return member.apply(of, args);
        if (!life.lastCallHappens) throw new Error("the process died");
        return dieAfter(member.apply(of, args));
      };
    },
  });
}

function dieAfter(result: unknown): unknown {
  const die = () => {
    throw new Error("the process died");
  };
  if (!(result instanceof Promise)) return die();
  const dying = result.then(die);
  // Nobody may be there any more to hear of it.
  dying.catch(() => undefined);
  return dying;
}

/**
 * fast-check, which tries the same cases in every run: a commit that passed here passes everywhere. `SEED=random` tries
 * others, and `SEED=1234` those of a run that failed.
 */
import fc from "fast-check";

const { SEED = "20261123" } = process.env;

if (SEED !== "random") fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(SEED) });

export default fc;

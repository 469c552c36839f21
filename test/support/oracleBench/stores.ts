import { sqliteDatabase } from "../../../oracle/store/sqliteDatabase";
import { Store } from "../../../oracle/store/store";

/** A store on the disk. */
export function openBenchStore(path: string): Store {
  return new Store(sqliteDatabase(path));
}

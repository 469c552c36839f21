import path from "node:path";
import type { OracleConfig } from "../config";
import type { Database } from "./database";
import { postgresDatabase } from "./postgresDatabase";
import { readOnlySqlite, sqliteDatabase } from "./sqliteDatabase";
import type { StoreOwner } from "./store";

/** A schema of the configuration's database or, without one, a file of its folder, named after who it is of. */
export async function openDatabase(
  { database, dataFolder }: Pick<OracleConfig, "database" | "dataFolder">,
  role: StoreOwner["role"],
): Promise<Database> {
  return database === undefined
    ? sqliteDatabase(path.join(dataFolder!, `${role}.sqlite`))
    : postgresDatabase(database.url, `${database.schema}_${role}`);
}

/** The same, to look at while another process may use it. @throws Problem if it can't be read */
export async function openToRead(
  config: Pick<OracleConfig, "database" | "dataFolder">,
  role: StoreOwner["role"],
): Promise<Database> {
  return config.database === undefined
    ? readOnlySqlite(path.join(config.dataFolder!, `${role}.sqlite`))
    : openDatabase(config, role);
}

// Saves an annotation within a second of its last change. Every change is in the browser's storage until the server has it.
import { ApiError, call, type Document, type Newest } from "./api";
import { merge } from "./model";

const DELAY_MS = 500;
const RETRY_MS = 2000;

export interface Entry {
  version: number; // that the change was made from
  base: Document; // the annotation of that version
  document: Document;
  operation: string; // sent again with the same id, it is made once
}

export interface Conflict {
  fields: string[];
  mine: Document; // put together, my values where both have changed one
  theirs: Newest;
}

export interface Status {
  state: "saved" | "waiting" | "saving" | "failed";
  text: string;
}

/** 128 random bits; crypto.randomUUID is missing where the page comes without TLS. */
const newId = (): string => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");

/** The changes of one video that the server does not have yet. */
export class Journal {
  private readonly key: string;
  constructor(
    video: number,
    private readonly storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> = localStorage,
  ) {
    this.key = `stvla-annotate:${video}`;
  }
  read(): Entry | null {
    try {
      return JSON.parse(this.storage.getItem(this.key) ?? "null");
    } catch {
      return null;
    }
  }
  write(entry: Entry): boolean {
    try {
      this.storage.setItem(this.key, JSON.stringify(entry));
      return true;
    } catch {
      return false; // the storage is full: the server has it in half a second
    }
  }
  clear(): void {
    this.storage.removeItem(this.key);
  }
}

export class Saver {
  private pending: Entry | null = null;
  private sending: Entry | null = null;
  private timer = 0;
  private closed = false;

  constructor(
    private readonly video: number,
    private newest: { version: number; document: Document },
    private readonly journal: Journal,
    private readonly on: { status(status: Status): void; saved(newest: Newest): void; merged(newest: Newest): void; conflict(conflict: Conflict): void },
  ) {}

  /** Take up what the last page left behind; returns it, or null. */
  replay(): Document | null {
    const left = this.journal.read();
    if (!left) return null;
    this.pending = left;
    this.wait(0);
    return left.document;
  }

  change(document: Document): void {
    this.pending = { version: this.newest.version, base: this.newest.document, document, operation: newId() };
    const kept = this.journal.write(this.pending);
    this.on.status({ state: "waiting", text: kept ? "not saved yet" : "not saved yet, and this browser's storage is full" });
    this.wait(DELAY_MS);
  }

  /** Answer a conflict. */
  resolve(document: Document, theirs: Newest): void {
    this.newest = theirs;
    this.change(document);
  }

  /** Go on from a version that was made otherwise: a step to another state. */
  resume(newest: Newest): void {
    this.newest = newest;
    this.on.status({ state: "saved", text: `saved r${newest.version}` });
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    if (this.pending && !this.sending) void this.send();
  }

  private wait(ms: number): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.send(), ms);
  }

  private async send(): Promise<void> {
    if (this.sending || !this.pending) return;
    const entry = (this.sending = this.pending);
    this.on.status({ state: "saving", text: "saving" });
    try {
      const { version, operation, document } = entry;
      this.done(entry, await call<Newest>("PUT", `videos/${this.video}`, { version, operation, document }));
    } catch (error) {
      this.sending = null;
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 409 && error.newest) this.stale(entry, error.newest);
      else {
        this.on.status({ state: "failed", text: `not saved, kept in this browser: ${error.message}` });
        const again = error.status === 0 || error.status >= 500; // 507: the server's disk is full
        if (again && !this.closed) this.wait(RETRY_MS);
      }
    }
  }

  private done(entry: Entry, newest: Newest): void {
    this.sending = null;
    this.newest = newest;
    if (this.pending === entry) {
      this.pending = null;
      this.journal.clear();
      this.on.status({ state: "saved", text: `saved r${newest.version} at ${new Date(newest.at * 1000).toLocaleTimeString("en-GB")}` });
      this.on.saved(newest);
    } else if (this.pending) {
      this.pending = { ...this.pending, version: newest.version, base: newest.document };
      this.journal.write(this.pending);
      this.wait(DELAY_MS);
    }
  }

  /** Somebody else saved first: put both together, and ask only where both changed one field. */
  private stale(entry: Entry, theirs: Newest): void {
    const latest = this.pending ?? entry;
    const { value, conflicts } = merge(latest.base, latest.document, theirs.document);
    if (conflicts.length) {
      this.on.status({ state: "failed", text: `${theirs.by} changed the same` });
      this.on.conflict({ fields: conflicts, mine: value, theirs });
      return;
    }
    this.newest = theirs;
    this.on.merged({ ...theirs, document: value });
    this.change(value);
  }
}

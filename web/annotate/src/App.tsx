import { useCallback, useEffect, useState } from "react";
import { ApiError, call, type Listed, type Me, type Row } from "./api";
import { Batches } from "./Batches";
import { Editor } from "./Editor";

/** `#/video/3/a1`, `#/batches`, or the list. */
function useRoute(): string[] {
  const read = (): string[] => location.hash.replace(/^#\/?/, "").split("/");
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const changed = (): void => setRoute(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

export function App() {
  const [me, setMe] = useState<Me | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const route = useRoute();
  const load = useCallback(() => {
    call<Me>("GET", "me").then((found) => (setMe(found), setError(null)), setError);
  }, []);
  useEffect(load, [load]);
  if (error?.status === 401) return <Login onDone={load} />;
  if (error) return <p className="error">{error.message}</p>;
  if (!me) return null;
  if (route[0] === "video") return <Editor key={route[1]} me={me} id={Number(route[1])} action={route[2]} />;
  return (
    <>
      <header>
        <a href="#/">Videos</a>
        <a href="#/batches">Batches</a>
        {me.role === "admin" && <a href="api/export">Export what is accepted</a>}
        <span className="right">
          {me.name}, {me.role}
        </span>
      </header>
      {route[0] === "batches" ? <Batches me={me} /> : <Videos />}
    </>
  );
}

function Login({ onDone }: { onDone(): void }) {
  const [error, setError] = useState("");
  const login = (data: FormData): void => {
    call("POST", "login", { token: String(data.get("token")).trim() }).then(onDone, (wrong: Error) => setError(wrong.message));
  };
  return (
    <form className="login" action={login}>
      <h1>stvla annotate</h1>
      <input name="token" type="password" placeholder="your token" autoFocus />
      <button>Enter</button>
      <p className="error">{error}</p>
    </form>
  );
}

const STATES = ["open", "annotated", "audited", "in_batch", "accepted", "excluded"];

function Videos() {
  const [state, setState] = useState("");
  const [search, setSearch] = useState("");
  const [rows, setRows] = useState<Row[]>([]);
  const [listed, setListed] = useState<Listed | null>(null);
  const [error, setError] = useState("");
  const more = useCallback(
    (after: number) =>
      call<Listed>("GET", `videos?${new URLSearchParams({ after: String(after), state, search })}`).then(
        (page) => {
          setListed(page);
          setRows((old) => (after ? [...old, ...page.videos] : page.videos));
        },
        (wrong: Error) => setError(wrong.message),
      ),
    [state, search],
  );
  useEffect(() => void more(0), [more]);
  return (
    <main className="list">
      <p>
        <input placeholder="search by name" value={search} onChange={(event) => setSearch(event.target.value)} />
        {["", ...STATES].map((one) => (
          <button key={one} className={one === state ? "chosen" : ""} onClick={() => setState(one)}>
            {one.replace("_", " ") || "all"} {one ? (listed?.counts[one] ?? 0) : ""}
          </button>
        ))}
      </p>
      <p className="error">{error}</p>
      <table>
        <thead>
          <tr>
            {["video", "task", "actions", "for a person", "state", "annotator", "reason"].map((name) => (
              <th key={name}>{name}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.id}>
              <td>
                <a href={`#/video/${row.id}`}>{row.name}</a>
              </td>
              <td>{row.task}</td>
              <td>{row.actions}</td>
              <td>{row.to_person || ""}</td>
              <td>
                <span className={`state ${row.state}`}>{row.state.replace("_", " ")}</span>
              </td>
              <td>{row.annotator}</td>
              <td>{row.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {listed?.next && <button onClick={() => void more(listed.next!)}>More</button>}
    </main>
  );
}

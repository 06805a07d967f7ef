import { useCallback, useEffect, useState } from "react";
import { type Batch, call, type Me, type Plan } from "./api";

const percent = (share: number): string => `${Math.round(1000 * share) / 10} %`;

/** Acceptance: the plan is shown before anything is drawn, then the sample is judged action by action. */
export function Batches({ me }: { me: Me }) {
  const [asked, setAsked] = useState({ wanted: "0.95", confidence: "0.95", usual: "" });
  const [plan, setPlan] = useState<Plan | null>(null);
  const [why, setWhy] = useState("");
  const [error, setError] = useState("");
  const [batches, setBatches] = useState<Batch[]>([]);
  const load = useCallback(() => {
    call<Batch[]>("GET", "batches").then(setBatches, (wrong: Error) => setError(wrong.message));
    call<Plan>("GET", `plan?${new URLSearchParams(asked)}`).then(
      (found) => (setPlan(found), setWhy("")),
      (wrong: Error) => (setPlan(null), setWhy(wrong.message)),
    );
  }, [asked]);
  useEffect(load, [load]);
  const ask = (method: string, path: string, body: unknown): void => {
    setError("");
    call(method, path, body).then(load, (wrong: Error) => setError(wrong.message));
  };
  const judge = (batch: number, video: number, action: string, good: boolean): void => {
    const reason = good ? null : prompt(`What is wrong with ${action}?`);
    if (good || reason) ask("POST", `batches/${batch}/verdict`, { video, action, good, reason });
  };
  return (
    <main className="batches">
      <section>
        <h2>Next batch: all audited actions</h2>
        {(["wanted", "confidence", "usual"] as const).map((name) => (
          <label key={name}>
            {{ wanted: "share of good ones to prove", confidence: "with which confidence", usual: "share that you usually reach" }[name]}{" "}
            <input size={6} value={asked[name]} onChange={(event) => setAsked({ ...asked, [name]: event.target.value })} />
          </label>
        ))}
        {plan ? (
          <>
            <p>
              Look at <b>{plan.sample}</b> of {plan.batch} actions; accept with at most <b>{plan.allowed}</b> defective. Then at
              least {percent(plan.wanted)} are good, with {percent(plan.confidence)} confidence.
            </p>
            <table>
              <thead>
                <tr>
                  <th>good in the batch</th>
                  {Object.keys(plan.accepts).map((good) => (
                    <th key={good}>{percent(Number(good))}</th>
                  ))}
                </tr>
              </thead>
              <tbody>
                <tr>
                  <td>it is accepted in</td>
                  {Object.entries(plan.accepts).map(([good, chance]) => (
                    <td key={good}>{percent(chance)}</td>
                  ))}
                </tr>
              </tbody>
            </table>
            {(me.role === "acceptor" || me.role === "admin") && (
              <button onClick={() => ask("POST", "batches", plan)}>Draw the sample</button>
            )}
          </>
        ) : (
          <p>{why}</p>
        )}
      </section>
      <p className="error">{error}</p>
      {batches.map((batch) => (
        <section key={batch.id}>
          <h2>
            Batch {batch.id} <span className={`state ${batch.verdict ?? "in_batch"}`}>{batch.verdict ?? "waits for verdicts"}</span>
          </h2>
          <p>
            {batch.sample.filter((one) => one.good !== null).length} of {batch.plan.sample} judged,{" "}
            {batch.sample.filter((one) => one.good === 0).length} defective, {batch.plan.allowed} allowed.
            {batch.secret && <> The draw can be repeated with the secret {batch.secret}.</>}
          </p>
          <table>
            <tbody>
              {batch.sample.map((one) => (
                <tr key={`${one.video}/${one.action}`}>
                  <td>
                    <a href={`#/video/${one.video}/${one.action}`}>
                      {one.name} {one.action}
                    </a>
                  </td>
                  <td>{one.good === null ? "" : one.good ? "good" : `defective: ${one.reason}`}</td>
                  <td>
                    {!batch.verdict && (
                      <>
                        <button onClick={() => judge(batch.id, one.video, one.action, true)}>good</button>
                        <button onClick={() => judge(batch.id, one.video, one.action, false)}>defective</button>
                      </>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      ))}
    </main>
  );
}

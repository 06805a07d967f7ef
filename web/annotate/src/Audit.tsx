import type { Distances } from "./api";

/** What an auditor sees: how far each action is from where they would put it, beside what is allowed. */
export function Audit({ distances: { actions, tolerance, fault } }: { distances: Distances }) {
  const cell = (value: number | null, most: number, digits = 0) => (
    <td className={value === null || Math.abs(value) > most ? "error" : ""}>{value === null ? "no point" : value.toFixed(digits)}</td>
  );
  return (
    <section className="audit" data-testid="audit">
      <h3>Audit: set frames and points as you find them; the annotation stays as it is</h3>
      <table>
        <thead>
          <tr>
            <th>action</th>
            <th>contact, release: frames (±{tolerance.frames})</th>
            <th>mm there (≤ {tolerance.contact_mm})</th>
            <th>path mm (≤ {tolerance.path_mm})</th>
            <th>words</th>
          </tr>
        </thead>
        <tbody>
          {actions.map((one) => (
            <tr key={one.first} data-testid={`audit-${one.first}`}>
              <td>{one.first}</td>
              {cell(Math.max(Math.abs(one.frames[1]), Math.abs(one.frames[2])), tolerance.frames)}
              {cell(one.contact_mm && Math.max(...one.contact_mm), tolerance.contact_mm, 1)}
              {cell(one.path_max_mm ?? 0, tolerance.path_mm, 1)}
              <td className={one.same_sentence ? "" : "error"}>{one.same_sentence ? "the same" : "others"}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className={fault ? "error" : "good"}>{fault ? `It cannot pass: ${fault}.` : "It is within the tolerances."}</p>
    </section>
  );
}

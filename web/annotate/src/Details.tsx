import { type RefObject, useState } from "react";
import type { Action, Document, SlotKind, Template, Thing, Weak } from "./api";
import { FRAMES, formOf, sentenceOf, slotsFor } from "./model";

interface Props {
  templates: Template[];
  document: Document;
  action: Action | undefined;
  fault: string | null;
  weak: Record<string, Weak>;
  search: RefObject<HTMLInputElement | null>;
  editable: boolean;
  onChoose(action: Action): void;
  onAction(action: Action): void;
  onDocument(document: Document): void;
}

/** The list of actions, and the chosen one: template, slots, hand, motion. Below, the things on the table. */
export function Details(props: Props) {
  const { templates, document, action, fault, weak, editable, onChoose, onAction, onDocument } = props;
  const words = (one: Action): string => {
    const form = formOf(templates, one);
    return form ? sentenceOf(form, one.slots, document.objects) : "what is done? (T)";
  };
  return (
    <section className="details">
      <div>
        <h3>Actions</h3>
        <ol className="actions">
          {document.actions.map((one) => (
            <li key={one.id} className={one.id === action?.id ? "chosen" : ""} onClick={() => onChoose(one)}>
              <b>{one.id}</b> {words(one)} <small>{FRAMES.map((key) => one[key] ?? "?").join(" · ")}</small>
              {weak[one.id]?.route === "person" && <small className="error"> look: {weak[one.id]!.reasons.join("; ")}</small>}
            </li>
          ))}
        </ol>
        <p className={fault ? "error" : "good"} data-testid="fault">
          {fault ?? "This annotation is finished."}
        </p>
        {action && editable && (
          <button onClick={() => onDocument({ ...document, actions: document.actions.filter((one) => one !== action) })}>
            remove {action.id}
          </button>
        )}
      </div>
      {action && (
        <fieldset disabled={!editable}>
          <h3>{action.id}</h3>
          <TemplateSearch {...props} action={action} />
          <Slots templates={templates} objects={document.objects} action={action} onAction={onAction} />
          <label>
            hand{" "}
            <select value={action.hand} onChange={(event) => onAction({ ...action, hand: event.target.value as Action["hand"] })}>
              <option>right</option>
              <option>left</option>
            </select>
          </label>
          <Motion templates={templates} action={action} onAction={onAction} />
        </fieldset>
      )}
      <Things document={document} editable={editable} onDocument={onDocument} />
    </section>
  );
}

function TemplateSearch({ templates, document, search, action, onAction }: Props & { action: Action }) {
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  const forms = templates.flatMap((template) => template.forms.map((form) => ({ template, form })));
  const found = forms.filter(({ template, form }) =>
    text.toLowerCase().split(" ").every((word) => `${template.id} ${form.words}`.includes(word)),
  ); // prettier-ignore
  const take = (index: number): void => {
    const one = found[index];
    if (!one) return;
    onAction({ ...action, template: one.template.id, slots: slotsFor(one.form, action.slots) });
    setText("");
    setOpen(false);
    search.current?.blur(); // keys are commands again
  };
  const now = formOf(templates, action);
  return (
    <div className="search">
      <input
        ref={search} placeholder="search a template (T)" value={text} onFocus={() => setOpen(true)}
        onBlur={() => setTimeout(() => setOpen(false), 200)} onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => event.key === "Enter" && take(0)}
      />
      {open && (
        <ul>
          {found.map(({ template, form }, i) => (
            <li key={`${template.id} ${form.words}`} onMouseDown={() => take(i)}>
              {form.words} <small>{template.id}</small>
            </li>
          ))}
        </ul>
      )}
      <p className="sentence" data-testid="sentence">
        {now ? sentenceOf(now, action.slots, document.objects) : ""}
      </p>
    </div>
  );
}

function Slots({ templates, objects, action, onAction }: { templates: Template[]; objects: Thing[]; action: Action; onAction(action: Action): void }) {
  const form = formOf(templates, action);
  if (!form) return null;
  const set = (name: string, value: string | number | string[]): void => onAction({ ...action, slots: { ...action.slots, [name]: value } });
  const options = objects.map((thing) => (
    <option key={thing.id} value={thing.id}>
      {thing.name}
    </option>
  ));
  const field = (name: string, slot: SlotKind) => {
    const value = action.slots[name];
    if (slot.kind === "Thing")
      return (
        <select value={String(value)} onChange={(event) => set(name, event.target.value)}>
          <option value="">…</option>
          {options}
        </select>
      );
    if (slot.kind === "Things")
      return (
        <select
          multiple value={Array.isArray(value) ? value : []}
          onChange={(event) => set(name, [...event.target.selectedOptions].map((option) => option.value).slice(0, slot.most))}
        >
          {options}
        </select>
      );
    if (slot.kind === "Choice")
      return (
        <select value={String(value)} onChange={(event) => set(name, event.target.value)}>
          {slot.values!.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      );
    if (slot.kind === "Whole")
      return <input type="number" min={slot.least} max={slot.most} value={Number(value)} onChange={(event) => set(name, Math.round(Number(event.target.value)))} />;
    return <input value={String(value)} placeholder="one to four words" onChange={(event) => set(name, event.target.value)} />;
  };
  return Object.entries(form.slots).map(([name, slot]) => (
    <label key={name}>
      {name} {field(name, slot)}
    </label>
  ));
}

/** What the path does not say; only for templates that need it. */
function Motion({ templates, action, onAction }: { templates: Template[]; action: Action; onAction(action: Action): void }) {
  const needed = templates.find((template) => template.id === action.template)?.motion ?? [];
  const set = (name: string, value: number | string | null): void => onAction({ ...action, motion: { ...action.motion, [name]: value } });
  return needed.map((name) => (
    <label key={name}>
      {name}{" "}
      {name === "pattern" ? (
        <select value={String(action.motion?.[name] ?? "")} onChange={(event) => set(name, event.target.value || null)}>
          <option value="">…</option>
          <option>linear</option>
          <option>circular</option>
        </select>
      ) : (
        <input
          type="number" step="any" value={String(action.motion?.[name] ?? "")}
          onChange={(event) => set(name, event.target.value === "" ? null : Number(event.target.value))}
        />
      )}
    </label>
  ));
}

function Things({ document, editable, onDocument }: { document: Document; editable: boolean; onDocument(document: Document): void }) {
  const add = (): void => {
    let n = document.objects.length + 1;
    while (document.objects.some((thing) => thing.id === `thing_${n}`)) n++;
    onDocument({ ...document, objects: [...document.objects, { id: `thing_${n}`, name: `thing ${n}`, category: "thing" }] });
  };
  const set = (thing: Thing, changed: Partial<Thing>): void =>
    onDocument({ ...document, objects: document.objects.map((one) => (one === thing ? { ...one, ...changed } : one)) });
  return (
    <fieldset disabled={!editable}>
      <h3>Video and things</h3>
      <label>
        goal <input size={34} value={document.instruction} onChange={(event) => onDocument({ ...document, instruction: event.target.value })} />
      </label>
      {document.objects.map((thing) => (
        <div key={thing.id}>
          <input value={thing.name} title={thing.id} onChange={(event) => set(thing, { name: event.target.value })} />
          <input size={8} value={thing.category} title="category" onChange={(event) => set(thing, { category: event.target.value })} />
          <button title="remove" onClick={() => onDocument({ ...document, objects: document.objects.filter((one) => one !== thing) })}>
            ×
          </button>
        </div>
      ))}
      <button onClick={add}>add a thing</button>
    </fieldset>
  );
}

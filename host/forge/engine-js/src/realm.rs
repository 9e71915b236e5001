//! One JavaScript realm with one behaviour in it.

use std::cell::{Cell, RefCell};

use rquickjs::promise::PromiseState;
use rquickjs::{CatchResultExt, Context, Ctx, Function, Module, Object, Persistent, Runtime};
use serde_json::json;

use crate::behaviour::Behaviour;
use crate::bindings::exports::telos::host::handler::{Failure, Message};
use crate::bindings::exports::telos::host::lifecycle::{Descriptor, EvolveError, SlotValue};
use crate::host;
use crate::problem::Problem;

const PRELUDE: &str = include_str!("prelude.js");
/// The file that errors name.
const SOURCE_NAME: &str = "behaviour.js";

/// Inside the component's own memory limit, so that a behaviour is told where it used it up.
const MEMORY_BYTES: usize = 40 << 20;
/// Inside the host's stack limit, for the same reason.
const STACK_BYTES: usize = 192 << 10;
/// Less while a source is read: there, what a level of nesting takes of the host's stack is many times what it takes of
/// this one.
const STACK_BYTES_OF_BOOT: usize = 48 << 10;
/// How often the engine looks up from its work, of which a call has so many: some hundred milliseconds, within the
/// host's own limit on processor time.
const TICKS_OF_BOOT: u32 = 200;
const TICKS_OF_CALL: u32 = 4_000;

/// What is said of promises that somebody has still to settle.
const LEFT_FOR_LATER: &str = "something was left for later, by a promise, an async function or import(): nothing here is awaited, and nothing runs later";

thread_local! {
    static REALM: RefCell<Option<Realm>> = const { RefCell::new(None) };
    static TICKS: Cell<u32> = const { Cell::new(0) };
}

/// Works in the realm, making it when there is none.
pub(crate) fn with_realm<T>(work: impl FnOnce(&mut Realm) -> T) -> T {
    REALM.with(|realm| work(realm.borrow_mut().get_or_insert_with(Realm::new)))
}

/// The realm.
pub(crate) struct Realm {
    context: Context,
    /// What of the prelude is called from here.
    prelude: Persistent<Object<'static>>,
    behaviour: Option<Booted>,
}

struct Booted {
    behaviour: Behaviour,
    exports: Persistent<Object<'static>>,
}

impl Realm {
    fn new() -> Self {
        let made = Self::make();
        made.unwrap_or_else(|error| panic!("the engine cannot make its realm: {error}"))
    }

    fn make() -> Result<Self, rquickjs::Error> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(MEMORY_BYTES);
        runtime.set_max_stack_size(STACK_BYTES);
        runtime.set_interrupt_handler(Some(Box::new(is_out_of_ticks)));
        grant_ticks(TICKS_OF_CALL);
        let context = Context::full(&runtime)?;
        let prelude = context.with(|context| {
            let make: Function<'_> = context.eval(PRELUDE)?;
            let prelude: Object<'_> = make.call((host::offer(&context)?,))?;
            Ok::<_, rquickjs::Error>(Persistent::save(&context, prelude))
        })?;
        Ok(Self { context, prelude, behaviour: None })
    }

    pub(crate) fn boot(&mut self, text: &str) -> Result<(), String> {
        let behaviour: Behaviour =
            serde_json::from_str(text).map_err(|error| format!("this is no behaviour: {error}"))?;
        grant_ticks(TICKS_OF_BOOT);
        let source = behaviour.source.clone();
        self.context.runtime().set_max_stack_size(STACK_BYTES_OF_BOOT);
        let exports = self.context.with(|context| {
            let exports = evaluate(&context, source).map_err(Problem::into_text)?;
            let unfit = self.unfit(&context, exports.clone()).map_err(Problem::into_text)?;
            unfit.map_or_else(|| Ok(Persistent::save(&context, exports)), Err)
        });
        self.context.runtime().set_max_stack_size(STACK_BYTES);
        self.behaviour = Some(Booted { behaviour, exports: exports? });
        Ok(())
    }

    pub(crate) fn describe(&self) -> Descriptor {
        let Some(booted) = &self.behaviour else { panic!("nothing was booted") };
        booted.behaviour.describe().unwrap_or_else(|error| panic!("no descriptor: {error}"))
    }

    pub(crate) fn handle(&self, message: &Message) -> Result<String, Failure> {
        let Some(booted) = &self.behaviour else { panic!("nothing was booted") };
        let told = json!({
            "receiver": host::told(message.receiver),
            "selector": message.selector,
            "trace": message.trace,
        });
        let uses = json!(booted.behaviour.uses).to_string();
        // The arguments are JSON text already.
        let text =
            format!("{}, \"arguments\": {}}}", told.to_string().trim_end_matches('}'), message.arguments);
        grant_ticks(TICKS_OF_CALL);
        let answered = self.context.with(|context| {
            let called = self.call(&context, booted, "handle", "handle", (text, uses));
            if called.is_ok() && context.execute_pending_job() {
                let place = self.place(&context, booted).unwrap_or_default();
                return Err(Problem::Broken(format!("TypeError: {LEFT_FOR_LATER} {place}")));
            }
            called.map_err(|error| match Problem::of(&context, error) {
                Problem::Broken(text) if text.starts_with("TypeError: ") => {
                    let misfit = self.misfit(&context, &booted.behaviour, message);
                    misfit.map_or(Problem::Broken(text), Problem::BadArguments)
                }
                problem => problem,
            })
        });
        answered.map_err(|problem| match problem {
            Problem::BadArguments(text) => Failure::BadArguments(text),
            Problem::Refused(text) => Failure::Refused(text),
            Problem::Broken(text) => Failure::Broken(text),
        })
    }

    pub(crate) fn carry(
        &self,
        export: &str,
        slots: &[SlotValue],
        from: u32,
        to: u32,
    ) -> Result<Vec<SlotValue>, EvolveError> {
        let Some(booted) = &self.behaviour else { panic!("nothing was booted") };
        let fields: Vec<String> =
            slots.iter().map(|slot| format!("{}:{}", json!(slot.name), slot.value)).collect();
        let text = format!("{{{}}}", fields.join(","));
        grant_ticks(TICKS_OF_CALL);
        self.context.with(|context| {
            if !has(&context, booted, export) {
                return Err(EvolveError::Unsupported);
            }
            let carried = self.call(&context, booted, "carry", export, (text, from, to));
            let carried =
                carried.map_err(|error| EvolveError::Invalid(Problem::of(&context, error).into_text()))?;
            let fields: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&carried).map_err(|error| EvolveError::Invalid(error.to_string()))?;
            let slot =
                |(name, value): (String, serde_json::Value)| SlotValue { name, value: value.to_string() };
            Ok(fields.into_iter().map(slot).collect())
        })
    }

    /// Why a message's arguments are not what its selector takes; none when they are.
    fn misfit(&self, context: &Ctx<'_>, behaviour: &Behaviour, message: &Message) -> Option<String> {
        let schema = behaviour.arguments_of(&message.selector)?;
        grant_ticks(TICKS_OF_BOOT);
        let prelude = self.prelude.clone().restore(context).ok()?;
        let misfit: Function<'_> = prelude.get("misfitOf").ok()?;
        misfit.call((schema, message.arguments.clone())).ok()?
    }

    /// Why what a module exports is no behaviour; none when it is one.
    fn unfit<'js>(&self, context: &Ctx<'js>, exports: Object<'js>) -> Result<Option<String>, Problem> {
        let ask = || {
            let prelude = self.prelude.clone().restore(context)?;
            prelude.get::<_, Function<'js>>("unfit")?.call((exports,))
        };
        ask().catch(context).map_err(|error| Problem::of(context, error))
    }

    /// Where `handle` was written, as a stack has it.
    fn place<'js>(&self, context: &Ctx<'js>, booted: &Booted) -> rquickjs::Result<String> {
        let handle: Function<'js> = booted.exports.clone().restore(context)?.get("handle")?;
        let prelude = self.prelude.clone().restore(context)?;
        prelude.get::<_, Function<'js>>("place")?.call((handle,))
    }

    /// Has the prelude call an export of the behaviour.
    fn call<'js, A>(
        &self,
        context: &Ctx<'js>,
        booted: &Booted,
        through: &str,
        export: &str,
        arguments: A,
    ) -> Result<String, rquickjs::CaughtError<'js>>
    where
        A: Prepend<'js>,
    {
        let call = || {
            let prelude = self.prelude.clone().restore(context)?;
            let through: Function<'js> = prelude.get(through)?;
            let exported: Function<'js> = booted.exports.clone().restore(context)?.get(export)?;
            arguments.call(&through, exported)
        };
        call().catch(context)
    }
}

/// Arguments behind a first one.
trait Prepend<'js> {
    fn call(self, function: &Function<'js>, first: Function<'js>) -> rquickjs::Result<String>;
}

impl<'js> Prepend<'js> for (String, String) {
    fn call(self, function: &Function<'js>, first: Function<'js>) -> rquickjs::Result<String> {
        function.call((first, self.0, self.1))
    }
}

impl<'js> Prepend<'js> for (String, u32, u32) {
    fn call(self, function: &Function<'js>, first: Function<'js>) -> rquickjs::Result<String> {
        function.call((first, self.0, self.1, self.2))
    }
}

fn evaluate<'js>(context: &Ctx<'js>, source: String) -> Result<Object<'js>, Problem> {
    let told = |error| Problem::of(context, error);
    let text = source.clone();
    let declared = Module::declare(context.clone(), SOURCE_NAME, source).catch(context);
    let declared = declared.map_err(|error| told(error).of_source(&text))?;
    let (module, evaluated) =
        declared.eval().catch(context).map_err(|error| told(error).of_imports(&text))?;
    if evaluated.state() == PromiseState::Pending {
        let text = "the module awaits something at its top level; nothing is awaited here";
        return Err(Problem::Broken(text.into()));
    }
    evaluated.finish::<()>().catch(context).map_err(told)?;
    if context.execute_pending_job() {
        return Err(Problem::Broken(format!("at its top level, {LEFT_FOR_LATER}")));
    }
    module.namespace().catch(context).map_err(told)
}

fn has(context: &Ctx<'_>, booted: &Booted, export: &str) -> bool {
    let exports = booted.exports.clone().restore(context);
    exports.is_ok_and(|exports| exports.get::<_, Function<'_>>(export).is_ok())
}

fn grant_ticks(ticks: u32) {
    TICKS.with(|left| left.set(ticks));
}

fn is_out_of_ticks() -> bool {
    TICKS.with(|left| match left.get().checked_sub(1) {
        Some(less) => {
            left.set(less);
            false
        }
        None => true,
    })
}

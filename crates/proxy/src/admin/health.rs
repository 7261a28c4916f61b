//! Whether the gate serves what it is to serve.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::telemetry::{Telemetry, family};

/// What is known of plans and of the gate's end.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of the plan that is to be served; 0 before the first.
    plan: u64,
    since: Option<Timestamp>,
    took: Duration,
    /// Listeners that cannot be served.
    failed: Vec<String>,
    draining: bool,
}

impl Health {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// That a plan is handed to workers.
    pub(crate) fn handed_over(&self, plan: u64) {
        self.with(|state| state.plan = plan);
    }

    /// That all workers took it up, as far as they did, and what they could not do.
    pub(crate) fn taken_up(&self, took: Duration, failed: Vec<String>) {
        self.with(|state| {
            state.since = Some(Timestamp::now());
            state.took = took;
            state.failed = failed;
        });
    }

    /// That the gate ends.
    pub(crate) fn drain(&self) {
        self.with(|state| state.draining = true);
    }

    /// The number of the plan that is to be served, and since when.
    pub(crate) fn plan(&self) -> (u64, Option<Timestamp>) {
        self.with(|state| (state.plan, state.since))
    }

    /// Nothing where the gate is ready, else why it is not.
    pub(crate) fn ready(&self, telemetry: &Telemetry) -> Result<(), String> {
        self.with(|state| {
            if state.draining {
                return Err("draining".to_owned());
            }
            if state.since.is_none() {
                return Err("no configuration is served yet".to_owned());
            }
            let behind = telemetry.plans().filter(|plan| *plan != state.plan).count();
            if behind > 0 {
                return Err(format!("{behind} workers do not serve configuration {}", state.plan));
            }
            if state.failed.is_empty() { Ok(()) } else { Err(state.failed.join("\n")) }
        })
    }

    /// Metrics of it.
    pub(crate) fn metrics(&self, telemetry: &Telemetry) -> String {
        let ready = self.ready(telemetry).is_ok();
        let mut out = String::new();
        self.with(|state| {
            let mut one = |name, help, value: String| family(name, "gauge", help, [(Vec::new(), value)], &mut out);
            one("strait_config_generation", "Number of the configuration that is served.", state.plan.to_string());
            if let Some(since) = state.since {
                let seconds = since.as_millisecond();
                let seconds = format!("{}.{:03}", seconds / 1000, seconds % 1000);
                one("strait_config_applied_timestamp_seconds", "When all workers served it.", seconds);
            }
            let took = format!("{:.6}", state.took.as_secs_f64());
            one("strait_config_apply_seconds", "How long they took to take it up.", took);
            one("strait_listeners_failed", "Listeners that cannot be served.", state.failed.len().to_string());
            one("strait_workers", "Worker threads.", telemetry.plans().count().to_string());
            let serving = telemetry.plans().filter(|plan| *plan == state.plan).count();
            one("strait_workers_serving", "Worker threads that serve that configuration.", serving.to_string());
            one("strait_ready", "Whether /healthz/ready says so.", u8::from(ready).to_string());
        });
        out
    }
}

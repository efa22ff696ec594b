//! What a policy does to a route: a filter in the chain, and what the route says to it.

use meshrelay_api::phases::{PhaseChoice, PrioritizedPhase};
use serde_json::{Value, json};

use super::ext_auth::Approval;
use crate::ResourceRef;

/// Part of the chain of filters. The order of the variants is that of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// Refuses what a policy cannot decide about.
    Closed,
    /// Before external authorization.
    PreAuthz,
    /// External authorization.
    Authz,
    /// After external authorization.
    PostAuthz,
}

impl Phase {
    /// Where a policy wants to stand, and its priority there.
    pub(super) fn of(wanted: Option<&PrioritizedPhase>, default: Self) -> (Self, i32) {
        match wanted.map(PrioritizedPhase::phase) {
            Some(Ok(Some(PhaseChoice::PreAuthz(place)))) => (Self::PreAuthz, place.priority.unwrap_or_default()),
            Some(Ok(Some(PhaseChoice::PostAuthz(place)))) => (Self::PostAuthz, place.priority.unwrap_or_default()),
            _ => (default, 0),
        }
    }
}

/// One filter, by where it stands. Filters of one phase stand by priority, the lowest first, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) phase: Phase,
    pub(crate) priority: i32,
    /// What the filter does, and for whom if there is more than one, such as `jwt` or `ext_authz/c1/shop/auth-server`.
    pub(crate) filter: String,
}

impl Position {
    /// The filter's name in Envoy, unlike those of Istio's own filters, whose configuration stays untouched.
    pub(crate) fn name(&self) -> String {
        let (filter, priority) = (&self.filter, self.priority);
        match self.phase {
            Phase::Closed | Phase::Authz => format!("meshrelay.{filter}"),
            Phase::PreAuthz => format!("meshrelay.{filter}.preAuthz.{priority}"),
            Phase::PostAuthz => format!("meshrelay.{filter}.postAuthz.{priority}"),
        }
    }
}

/// What a policy needs of one filter in one place.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Effect {
    pub(crate) position: Position,
    /// Configuration of the filter, with its `@type`. All effects at one position are put together: objects by key, of
    /// anything else the first.
    pub(crate) config: Value,
    /// What the route adds, with its `@type`. It also switches the filter on there.
    pub(crate) route: Value,
    /// For a filter that acts on routes that say nothing to it: what makes it pass their requests. It is off as well, but
    /// a filter that is off on the first route of a request is missed when another filter has the route chosen anew.
    pub(super) pass: Option<Value>,
    /// The policy and what else had a part.
    pub(crate) sources: Vec<ResourceRef>,
    /// Services that the filter asks about requests to limit.
    pub(super) asked: Vec<ResourceRef>,
    /// What is asked of a server that approves requests.
    pub(super) approval: Option<Approval>,
}

impl Effect {
    /// Of a filter that does nothing on routes that say nothing to it.
    pub(super) fn idle(position: Position, config: Value, route: Value, sources: Vec<ResourceRef>) -> Self {
        Self { position, config, route, pass: None, sources, asked: Vec::new(), approval: None }
    }

    /// Answers every request with status 403: for a policy that cannot be put in force, as open routes would be worse.
    /// `why` appears in access logs.
    pub(crate) fn closed(why: &str, sources: Vec<ResourceRef>) -> Self {
        const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
        let anything = json!({"permissions": [{"any": true}], "principals": [{"any": true}]});
        let rules = json!({"action": "DENY", "policies": {why: anything}});
        let position = Position { phase: Phase::Closed, priority: 0, filter: "closed".to_owned() };
        let route = json!({"@type": format!("{RBAC}PerRoute"), "rbac": {"rules": rules}});
        Self::idle(position, json!({"@type": RBAC}), route, sources)
    }
}

/// Adds to a configuration what another one has beside it.
pub(super) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(known) => merge(known, value),
                    None => {
                        into.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (into @ Value::Null, from) => *into = from.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_ordered_by_phase_priority_and_name() {
        let position = |phase, priority, filter: &str| Position { phase, priority, filter: filter.to_owned() };
        let order = [
            position(Phase::Closed, 0, "closed"),
            position(Phase::PreAuthz, -1, "rate_limit"),
            position(Phase::PreAuthz, 0, "jwt"),
            position(Phase::PreAuthz, 0, "rate_limit"),
            position(Phase::Authz, 0, "ext_authz/a"),
            position(Phase::PostAuthz, -5, "jwt"),
        ];
        assert!(order.is_sorted_by(|a, b| a < b));
        let names: Vec<_> = order.iter().map(Position::name).collect();
        assert_eq!(names[1], "meshrelay.rate_limit.preAuthz.-1");
        assert_eq!(names[4], "meshrelay.ext_authz/a");
    }

    #[test]
    fn configurations_are_put_together_by_key() {
        let mut all = Value::Null;
        merge(&mut all, &json!({"@type": "t", "providers": {"a": {"issuer": "x"}}, "list": [1]}));
        merge(&mut all, &json!({"@type": "t", "providers": {"b": {}}, "list": [2]}));
        assert_eq!(all, json!({"@type": "t", "providers": {"a": {"issuer": "x"}, "b": {}}, "list": [1]}));
    }
}

//! What policies refer to, and what no policy does.

use std::collections::BTreeSet;

use meshrelay_api::references::ObjectReference;
use meshrelay_api::traffic_control::RateLimitConfig;
use meshrelay_snapshot::Name;

use super::ext_auth;
use crate::input::{ClusterInput, Input, Table};
use crate::model::Model;
use crate::policies::routes::RouteBooks;
use crate::report::{Code, Notes, Severity};

/// Resources of one kind that policies refer to: cluster, and namespace with name.
type Referenced = BTreeSet<(Name, (Name, Name))>;

/// Says which servers, and what else policies refer to, do nothing because no policy does.
pub(super) fn note(model: &Model, books: &RouteBooks, notes: &mut Notes) {
    let asked = books.ext_auth.iter().filter_map(|policy| ext_auth::asked(model, policy));
    let asked = asked.map(|server| (server.cluster.clone(), server.place())).collect();
    let text = "no ExtAuthPolicy asks it: none names it in spec.config.server, and it is not the oldest of a workspace \
                whose policies name none";
    note_kind(model, ClusterInput::ext_auth_servers, &asked, text, notes);

    type Field = fn(&RateLimitConfig) -> Option<&ObjectReference>;
    let named = |field: Field| -> Referenced {
        let policies = books.rate_limit.iter();
        let named = policies.filter_map(|policy| Some((policy, field(policy.input.spec.config.as_ref()?)?)));
        named.map(|(policy, reference)| policy.source.named(reference)).collect()
    };
    let counted = named(|config| config.ratelimit_server_config.as_ref());
    let text = "no RateLimitPolicy names it in spec.config.ratelimitServerConfig: nothing is counted by it";
    note_kind(model, ClusterInput::rate_limit_server_configs, &counted, text, notes);
    let described = named(|config| config.ratelimit_client_config.as_ref());
    let text = "no RateLimitPolicy names it in spec.config.ratelimitClientConfig: no request is described by it";
    note_kind(model, ClusterInput::rate_limit_client_configs, &described, text, notes);
    let settings = named(|config| config.server_settings.as_ref());
    let text = "no RateLimitPolicy names it in spec.config.serverSettings: they hold for no requests";
    note_kind(model, ClusterInput::rate_limit_server_settings, &settings, text, notes);
}

fn note_kind<T>(
    model: &Model,
    table: impl Fn(&ClusterInput) -> Table<'_, T>,
    referenced: &Referenced,
    text: &str,
    notes: &mut Notes,
) {
    for (cluster, input) in &model.clusters {
        let counts = |one: &&Input<T>| model.config_owner(cluster, one.namespace()).is_some();
        for one in table(input).values().map(AsRef::as_ref).filter(counts) {
            let source = one.reference(cluster);
            if !referenced.contains(&(cluster.clone(), source.place())) {
                notes.say(&source, Severity::Warning, Code::Unreferenced, text);
            }
        }
    }
}

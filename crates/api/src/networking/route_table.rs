use std::collections::BTreeMap;

use super::{DelegateAction, DirectResponseAction, ForwardToAction, GraphqlAction, RedirectAction};
use crate::matchers::{HttpRequestMatcher, TcpRequestMatcher, TlsRequestMatcher};
use crate::portal::PortalMetadata;
use crate::references::{DestinationReference, ObjectReference};
use crate::selectors::{DestinationSelector, WorkloadSelector};
use crate::status::Status;

message! {
    /// Routes for some hosts (a root table), or routes that other tables delegate to (a table without hosts).
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "has(self.hosts) || !has(self.virtualGateways)",
            "message": "virtualGateways needs hosts: a table without hosts takes its gateways from its parents"
        },
        {
            "rule": "has(self.hosts) || !has(self.applyToDestinations)",
            "message": "applyToDestinations needs hosts: set it on the root table"
        },
        {
            "rule": "has(self.hosts) || !has(self.failureMode)",
            "message": "failureMode needs hosts: set it on the root table"
        },
        {
            "rule": "has(self.http) || has(self.tcp) || has(self.tls)",
            "message": "expected http, tcp or tls routes"
        },
        {
            "rule": "has(self.defaultDestination) ? has(self.http) && self.http.exists(r, has(r.forwardTo)) : true",
            "message": "defaultDestination needs an http route with forwardTo"
        },
        {
            "rule": "has(self.http) && self.http.exists(r, has(r.forwardTo) && has(r.forwardTo.destinations) && \
                r.forwardTo.destinations.size() == 0) ? has(self.defaultDestination) : true",
            "message": "an http route forwards without destinations: set them or defaultDestination"
        }
    ]))]
    pub struct RouteTableSpec {
        /// Host names, the first label of which may be `*`. Empty makes this a table that others delegate to.
        pub hosts: Vec<String>,
        /// Gateways that serve the routes; only for root tables.
        pub virtual_gateways: Vec<ObjectReference>,
        /// Workloads whose sidecars serve the routes. Empty means all if no gateway is given, and none otherwise.
        #[schemars(length(max = 10_000), extend("x-kubernetes-validations" = [
            {"rule": "self.all(s, !has(s.kind) || s.kind == 'KUBE')", "message": "expected no kind or KUBE"}
        ]))]
        pub workload_selectors: Vec<WorkloadSelector>,
        /// Destinations that apply the routes to whatever reaches them; only for root tables.
        #[schemars(extend("x-kubernetes-validations" = [
            {"rule": "self.all(s, !has(s.kind) || s.kind == 'KUBE')", "message": "expected no kind or KUBE"}
        ]))]
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// Where routes go that forward without saying where to.
        pub default_destination: Option<DestinationReference>,
        /// Routes for HTTP; the first that matches is taken.
        #[schemars(length(max = 10_000))]
        pub http: Vec<HttpRoute>,
        /// Routes for TCP; the first that matches is taken.
        #[schemars(length(max = 10_000))]
        pub tcp: Vec<TcpRoute>,
        /// Routes for TLS that is passed on unread; the first that matches is taken.
        #[schemars(length(max = 10_000))]
        pub tls: Vec<TlsRoute>,
        /// Place among the tables that the same route delegates to, the highest first.
        pub weight: i32,
        /// The API product that the table serves.
        pub portal_metadata: Option<PortalMetadata>,
        /// What happens when part of the tree is wrong; only for root tables.
        pub failure_mode: FailureMode,
        /// Annotations for the generated VirtualServices; only for root tables.
        pub virtual_service_annotations: BTreeMap<String, String>,
    }
}

named_values! {
    /// What happens when a route of a tree of tables is wrong.
    pub enum FailureMode {
        /// The wrong route answers with status 500, the others work.
        RouteReplacement = "ROUTE_REPLACEMENT",
        /// The whole tree stays as it last was right.
        FreezeConfig = "FREEZE_CONFIG",
    }
}

message! {
    /// A route for HTTP requests.
    pub struct HttpRoute {
        /// Name of the route, unique in the table.
        pub name: String,
        /// Labels by which policies find the route.
        pub labels: BTreeMap<String, String>,
        /// Requests that it takes, those that any matcher fits; empty means all.
        pub matchers: Vec<HttpRequestMatcher>,
        /// Sends requests on.
        pub forward_to: Option<ForwardToAction>,
        /// Leaves requests to the routes of other tables.
        pub delegate: Option<DelegateAction>,
        /// Sends clients elsewhere.
        pub redirect: Option<RedirectAction>,
        /// Answers by itself.
        pub direct_response: Option<DirectResponseAction>,
        /// Answers GraphQL queries.
        pub graphql: Option<GraphqlAction>,
    }

    /// What the route does; one action is needed.
    oneof action_type: HttpAction {
        forward_to: ForwardTo(ForwardToAction),
        delegate: Delegate(DelegateAction),
        redirect: Redirect(RedirectAction),
        direct_response: DirectResponse(DirectResponseAction),
        graphql: Graphql(GraphqlAction),
    }
}

message! {
    /// A route for TCP connections, inside the mesh only.
    #[schemars(extend("required" = ["forwardTo"]))]
    pub struct TcpRoute {
        /// Connections that it takes, those that any matcher fits; empty means all.
        pub matchers: Vec<TcpRequestMatcher>,
        /// Sends connections on, without any rewriting.
        #[schemars(extend("x-kubernetes-validations" = [
            {
                "rule": "has(self.destinations) && 1 <= self.destinations.size() && self.destinations.size() <= 100",
                "message": "expected 1 to 100 destinations"
            }
        ]))]
        pub forward_to: Option<ForwardToAction>,
    }

    /// What the route does.
    oneof action_type: TcpAction { forward_to: ForwardTo(ForwardToAction), }
}

message! {
    /// A route for TLS connections that are passed on unread.
    #[schemars(extend("required" = ["forwardTo"]))]
    pub struct TlsRoute {
        /// Connections that it takes, those that any matcher fits.
        pub matchers: Vec<TlsRequestMatcher>,
        /// Sends connections on.
        pub forward_to: Option<TlsForwardToAction>,
    }

    /// What the route does.
    oneof action_type: TlsAction { forward_to: ForwardTo(TlsForwardToAction), }
}

message! {
    /// Sends TLS connections on.
    #[schemars(extend("required" = ["destinations"]))]
    pub struct TlsForwardToAction {
        /// Where to, by weight.
        #[schemars(length(min = 1, max = 100))]
        pub destinations: Vec<DestinationReference>,
    }
}

message! {
    /// What the server tells about a table.
    pub struct RouteTableStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of policies in force on its routes, by type.
        pub num_applied_route_policies: BTreeMap<String, u32>,
        /// Number of tables that delegate to it.
        pub num_parent_route_tables: u32,
        /// Workspace that owns it.
        pub owned_by_workspace: String,
        /// Number of gateways that serve it.
        pub num_allowed_virtual_gateways: u32,
    }
}

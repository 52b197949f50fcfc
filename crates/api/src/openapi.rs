//! The OpenAPI document: the table of routes and the schemas of the wire types, put together.

use utoipa::openapi::{
    ComponentsBuilder, Content, HttpMethod, Info, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
    ResponsesBuilder,
    path::{OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{ObjectBuilder, Schema, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa::{PartialSchema, ToSchema};

use crate::{Method, ROUTES, Route};

/// The document.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        paths = paths.path(route.path, PathItem::new(method(route), operation(route)));
    }
    let mut info = Info::new("skep", env!("CARGO_PKG_VERSION"));
    info.description = Some("The control contract of a skep node.".to_owned());
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components())).build()
}

/// The document as indented JSON with a newline at its end, as it is served and printed.
#[must_use]
pub fn openapi_json() -> String {
    let mut text = serde_json::to_string_pretty(&openapi()).unwrap_or_default();
    text.push('\n');
    text
}

fn method(route: &Route) -> HttpMethod {
    match route.method {
        Method::Get => HttpMethod::Get,
        Method::Put => HttpMethod::Put,
        Method::Post => HttpMethod::Post,
        Method::Delete => HttpMethod::Delete,
    }
}

fn operation(route: &Route) -> utoipa::openapi::path::Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(route.id)).summary(Some(route.summary)).responses(responses(route));
    for name in parameters(route.path) {
        let schema = ObjectBuilder::new().schema_type(Type::String).build();
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(Schema::Object(schema))),
        );
    }
    for (name, description) in route.query {
        let schema = ObjectBuilder::new().schema_type(Type::String).build();
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(*name)
                .description(Some(*description))
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .schema(Some(Schema::Object(schema))),
        );
    }
    if let Some(schema) = route.request {
        let body = RequestBodyBuilder::new().content("application/json", content(schema)).required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    if route.scope.is_some() {
        operation = operation.security(SecurityRequirement::new("key", Vec::<String>::new()));
    }
    operation.build()
}

fn responses(route: &Route) -> utoipa::openapi::Responses {
    let (status, media, schema) = route.response;
    let mut success = ResponseBuilder::new().description(route.summary);
    if !media.is_empty() {
        let text = || Content::new(Some(Schema::Object(ObjectBuilder::new().schema_type(Type::String).build())));
        success = success.content(media, schema.map_or_else(text, content));
    }
    let failure = ResponseBuilder::new()
        .description("The error: a code to act on, a message to read, a hint for what to do.")
        .content("application/json", content("ErrorBody"));
    ResponsesBuilder::new().response(status.to_string(), success).response("default", failure).build()
}

fn content(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn components() -> utoipa::openapi::Components {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    with::<crate::Deploy>(&mut schemas);
    with::<crate::Deployed>(&mut schemas);
    with::<crate::WorkerList>(&mut schemas);
    with::<crate::VersionList>(&mut schemas);
    with::<crate::Rollback>(&mut schemas);
    with::<crate::TailEvent>(&mut schemas);
    with::<crate::Execute>(&mut schemas);
    with::<crate::Executed>(&mut schemas);
    with::<crate::NewKey>(&mut schemas);
    with::<crate::NewKeyToken>(&mut schemas);
    with::<crate::KeyList>(&mut schemas);
    with::<crate::PutSecret>(&mut schemas);
    with::<crate::SecretList>(&mut schemas);
    with::<crate::Actor>(&mut schemas);
    with::<crate::ActorDetails>(&mut schemas);
    with::<crate::ActorList>(&mut schemas);
    with::<crate::ActorSql>(&mut schemas);
    with::<crate::ActorRows>(&mut schemas);
    with::<crate::Receipt>(&mut schemas);
    with::<crate::ForkActor>(&mut schemas);
    with::<crate::RewindActor>(&mut schemas);
    with::<crate::Rewound>(&mut schemas);
    with::<crate::Sandbox>(&mut schemas);
    with::<crate::NewSandbox>(&mut schemas);
    with::<crate::SandboxList>(&mut schemas);
    with::<crate::ResumeSandbox>(&mut schemas);
    with::<crate::SandboxExec>(&mut schemas);
    with::<crate::SandboxOutput>(&mut schemas);
    with::<crate::SandboxFile>(&mut schemas);
    with::<crate::SandboxFolder>(&mut schemas);
    with::<crate::SandboxPorts>(&mut schemas);
    with::<crate::NewSandboxSnapshot>(&mut schemas);
    with::<crate::SandboxSnapshot>(&mut schemas);
    with::<crate::SandboxSnapshotList>(&mut schemas);
    with::<crate::ForkSandbox>(&mut schemas);
    with::<crate::SandboxForks>(&mut schemas);
    with::<crate::SandboxDiff>(&mut schemas);
    with::<crate::SandboxMerged>(&mut schemas);
    with::<crate::SandboxHistory>(&mut schemas);
    with::<crate::NewImage>(&mut schemas);
    with::<crate::Image>(&mut schemas);
    with::<crate::ImageList>(&mut schemas);
    with::<crate::ImageProgress>(&mut schemas);
    with::<crate::NodeStatus>(&mut schemas);
    with::<crate::ErrorBody>(&mut schemas);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("skep_<id>_<secret>").build();
    let mut components = ComponentsBuilder::new().security_scheme("key", SecurityScheme::Http(bearer));
    for (name, schema) in schemas {
        components = components.schema(name, schema);
    }
    components.build()
}

/// The type's schema and those of all types inside it.
fn with<T: ToSchema + PartialSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_reference_is_defined_and_every_route_described() {
        let text = super::openapi_json();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let defined: BTreeSet<&str> = document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(defined.contains(name), "{name} is referred to but not defined");
        }
        let described: usize = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, crate::ROUTES.len());
    }
}

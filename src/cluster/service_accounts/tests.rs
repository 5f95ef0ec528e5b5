//! Against a small API server of our own that knows some bearers and counts what it is asked.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::watch;

use super::*;

const OURS: &str = "system:serviceaccount:vmi:controller";

/// How the API server answers, and what it was asked.
#[derive(Clone)]
struct Server {
    /// The status for a review of a token that was requested.
    review: u16,
    /// The status for a TokenRequest.
    request: u16,
    /// The bodies of the TokenRequests.
    requested: watch::Sender<Vec<Value>>,
    /// The `Authorization` of each review.
    reviewed: watch::Sender<Vec<String>>,
}

impl Server {
    /// An API server and the tokens of `account`, which lies in its namespace `mesh`.
    async fn start(request: u16, review: u16, account: &str) -> (Self, Account) {
        let server = Self { review, request, requested: watch::Sender::default(), reviewed: watch::Sender::default() };
        let routes = Router::new()
            .route("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", post(token))
            .route(REVIEWS, post(answer_review))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address")).parse().expect("URL");
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut config = Config::new(url);
        config.auth_info.token = Some(kube_token("ours"));
        let accounts = ServiceAccounts::new(Client::try_from(config.clone()).expect("client"), config).expect("client");
        let (namespace, account) = account.split_once('/').expect("the test names both");
        let wanted = TokenRequest {
            field: "spec.vault.auth.jwt.serviceAccountRef".to_owned(),
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            audiences: vec!["vault://mesh/vault".to_owned(), "https://vault:8200/".to_owned()],
        };
        (server, accounts.account(wanted))
    }
}

fn kube_token(token: &str) -> SecretString {
    SecretString::from(token)
}

async fn token(State(server): State<Server>, body: String) -> Response {
    let number = server.requested.borrow().len() + 1;
    server.requested.send_modify(|all| all.push(serde_json::from_str(&body).expect("the body is JSON")));
    let token = json!({"status": {"token": format!("eyJ.made-{number}")}});
    match server.request {
        201 => (StatusCode::CREATED, token.to_string()).into_response(),
        code => refusal(code),
    }
}

async fn answer_review(State(server): State<Server>, headers: HeaderMap) -> Response {
    let bearer = headers[AUTHORIZATION].to_str().expect("a header is text").to_owned();
    let is_ours = bearer == "Bearer ours";
    server.reviewed.send_modify(|all| all.push(bearer));
    match (is_ours, server.review) {
        (true, _) => review_of(OURS),
        (false, 201) => review_of("system:serviceaccount:mesh:login"),
        (false, code) => refusal(code),
    }
}

fn review_of(name: &str) -> Response {
    (StatusCode::CREATED, json!({"status": {"userInfo": {"username": name}}}).to_string()).into_response()
}

fn refusal(code: u16) -> Response {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "x"});
    (StatusCode::from_u16(code).expect("a status"), status.to_string()).into_response()
}

#[tokio::test]
async fn a_token_is_asked_for_once_a_login_and_shown_to_the_api_server_once_an_issuer() {
    let (server, account) = Server::start(201, 401, "mesh/login").await;
    for number in 1..=3 {
        let token = account.token().await.expect("the server makes one");
        assert_eq!(token.expose_secret(), format!("eyJ.made-{number}"));
    }
    let asked = server.requested.borrow().clone();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        asked[0]["spec"],
        json!({"audiences": ["vault://mesh/vault", "https://vault:8200/"], "expirationSeconds": 600})
    );
    assert_eq!(*server.reviewed.borrow(), ["Bearer ours", "Bearer eyJ.made-1"]);
}

#[tokio::test]
async fn a_token_that_the_api_server_accepts_is_given_to_nobody() {
    // One that it knows, and may not ask who it is.
    for code in [201, 403, 404] {
        let (server, account) = Server::start(201, code, "mesh/login").await;
        for _ in 0..2 {
            let error = account.token().await.expect_err("the token must not leave");
            let SignError::Issuer(Fault::Spec { field, problem }) = error else { panic!("{code}: {error:?}") };
            assert_eq!(field, "spec.vault.auth.jwt.serviceAccountRef.audiences");
            assert!(problem.contains("vault://mesh/vault, https://vault:8200/"), "{problem}");
        }
        assert_eq!(server.reviewed.borrow().len(), 3, "a refusal is not remembered");
    }
}

#[tokio::test]
async fn where_the_api_server_does_not_tell_the_token_is_kept_back_for_now() {
    for code in [400, 500] {
        let (_server, account) = Server::start(201, code, "mesh/login").await;
        let error = account.token().await.expect_err("the token must not leave");
        assert!(matches!(error, SignError::Transient(Outage::NoAccountToken { .. })), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn the_controllers_own_service_account_is_no_login() {
    let (server, account) = Server::start(201, 401, "vmi/controller").await;
    let error = account.token().await.expect_err("the token must not be made");
    assert!(
        error.to_string().starts_with("spec.vault.auth.jwt.serviceAccountRef.name: is this controller's own"),
        "{error}"
    );
    assert!(server.requested.borrow().is_empty(), "no token was asked for");
}

#[tokio::test]
async fn what_a_person_has_to_mend_is_told_from_what_passes() {
    for (code, words) in [(403, Some("chart's value serviceAccounts")), (404, Some("create it")), (500, None)] {
        let (_server, account) = Server::start(code, 401, "mesh/login").await;
        let error = account.token().await.expect_err("there is no token");
        match (&error, words) {
            (SignError::Issuer(Fault::Material { object, problem, .. }), Some(words)) => {
                assert_eq!(object, "ServiceAccount mesh/login");
                assert!(problem.contains(words), "{problem}");
            }
            (SignError::Transient(Outage::NoAccountToken { .. }), None) => {}
            other => panic!("{code}: {other:?}"),
        }
    }
}

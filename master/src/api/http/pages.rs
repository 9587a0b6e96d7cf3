//! The pages that older tools poll: what they are asked with, and how they are wrapped.

use axum::extract::Request;
use axum::response::Response;
use http::{Method, Uri};
use mezzo_model::Millis;
use mezzo_wire::v1::master::Call;
use mezzo_wire::v1::master::call::{Teardown, Type};

use super::answer::{self, Refused};
use super::query::Query;
use super::route::Page;
use super::scheduler::over;
use super::{Door, gzip, ladder, operator, v0};
use crate::core::Refusal;
use crate::front::Office;

/// Answers a page. The method of a read is not looked at, as in Mesos.
pub(super) async fn serve(door: &Door, page: Page, request: Request) -> Result<Response, Refused> {
    let uri = request.uri().clone();
    let query = Query::parse(uri.query().unwrap_or_default());
    let reads = &door.reads;
    if page == Page::Weights && is_write(request.method()) {
        leading(door, &uri)?;
        let words = "weights are not changed by this version of the master";
        return Err(Refusal::new(501, words).into());
    }
    let body = match page {
        Page::Version => v0::version(&reads.about().version),
        Page::Flags => v0::flags(&reads.about().flags),
        Page::Metrics => {
            check_timeout(&query)?;
            // A master that does not lead has numbers of its own.
            let office = door.front.office().ok();
            let numbers = reads.metrics(office.as_deref()).await;
            v0::metrics(&numbers.map_err(|_| over())?)
        }
        Page::Weights => {
            leading(door, &uri)?;
            v0::weights(&reads.weights())
        }
        page => {
            let office = leading(door, &uri)?;
            of_state(door, &office, page, query).await?
        }
    };
    let callback = Query::parse(uri.query().unwrap_or_default());
    wrap(body, callback.get("jsonp"))
}

/// Weights are read and written at one place.
fn is_write(method: &Method) -> bool {
    *method == Method::PUT
}

/// The way to the core, or who leads.
pub(super) fn leading(door: &Door, uri: &Uri) -> Result<std::sync::Arc<Office>, Refused> {
    door.front
        .office()
        .map_err(|status| Refused::from_status(&status, uri))
}

/// A page that shows what is there. It is written on a thread that may block: everything of a large cluster is long.
async fn of_state(
    door: &Door,
    office: &Office,
    page: Page,
    query: Query,
) -> Result<Vec<u8>, Refusal> {
    let state = door.reads.state(office).await.map_err(|_| over())?;
    let kind = Type::GetMaster;
    let master = door.reads.answer(office, kind).await.map_err(|_| over())?;
    let master = master
        .and_then(|answer| answer.get_master)
        .unwrap_or_default();
    let reads = door.reads.clone();
    let written = tokio::task::spawn_blocking(move || match page {
        Page::State => v0::state(reads.about(), &master, &state),
        Page::Summary => v0::summary(reads.about(), &state),
        Page::Agents => v0::all_agents(&state, query.get("slave_id")),
        Page::Frameworks => v0::frameworks(&state, query.get("framework_id")),
        Page::Tasks => v0::tasks(&state, &v0::TaskQuery::of(&query)),
        _ => v0::roles(&reads.roles(&state)),
    });
    written
        .await
        .map_err(|_| Refusal::new(500, "the page could not be written"))
}

/// JSON, or the script that old browsers were given.
fn wrap(body: Vec<u8>, callback: Option<&str>) -> Result<Response, Refused> {
    let Some(callback) = callback else {
        return Ok(answer::of_kind("application/json", body));
    };
    // A script of the caller's choice is not what this page is for.
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    if callback.is_empty() || !callback.chars().all(is_name) {
        return Err(Refusal::bad("'jsonp' must be the name of a function").into());
    }
    let script = [callback.as_bytes(), b"(", &body, b")"].concat();
    Ok(answer::of_kind("text/javascript", script))
}

/// Numbers are at hand, so nothing is waited for; what makes no sense is refused all the same.
fn check_timeout(query: &Query) -> Result<(), Refusal> {
    let Some(text) = query.get("timeout") else {
        return Ok(());
    };
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let why = match (number.parse::<f64>(), text.parse::<Millis>()) {
        (Ok(_), Ok(_)) if !unit.is_empty() => return Ok(()),
        (Err(_), _) => format!("Failed to convert '{number}' to number"),
        _ => format!("Unknown duration unit '{unit}'"),
    };
    Err(Refusal::bad(format!("Invalid timeout '{text}': {why}.\n")))
}

/// Whether this process can serve; says why it cannot.
pub(super) fn health(door: &Door) -> Response {
    match door.health.now() {
        Ok(()) => answer::empty(200),
        Err(why) => answer::words(503, why),
    }
}

/// A page of Mesos that is not here. Another master may know more, so the leader is asked first.
pub(super) fn unserved(door: &Door, request: &Request) -> Result<Response, Refused> {
    leading(door, request.uri())?;
    let path = request.uri().path();
    let words = format!("{path} is not served by this version of the master");
    Err(Refusal::new(501, words).into())
}

/// Who leads, without a page: also on the leader itself.
pub(super) fn redirect(door: &Door) -> Result<Response, Refused> {
    let leader = match door.front.office() {
        Ok(_) => {
            let master = &door.reads.about().master;
            let host = master.hostname.as_deref().unwrap_or_default();
            if host.contains(':') {
                format!("[{host}]:{}", master.port)
            } else {
                format!("{host}:{}", master.port)
            }
        }
        Err(status) => match mezzo_wire::grpc::leader(&status) {
            Some(leader) => leader.to_owned(),
            None => return Err(Refused::from_status(&status, &Uri::default())),
        },
    };
    Ok(answer::redirect(&format!("//{leader}")))
}

/// `POST /teardown` with `frameworkId=...`.
pub(super) async fn teardown(door: &Door, request: Request) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let office = leading(door, &parts.uri)?;
    if parts.method != Method::POST {
        return Err(Refused::Method(parts.method.to_string()));
    }
    let (body, _place) = ladder::read(door, body).await?;
    let body = gzip::unpack(&parts.headers, body).await?;
    let form = Query::parse(&String::from_utf8_lossy(&body));
    let Some(id) = form.get("frameworkId") else {
        let words = "Missing 'frameworkId' query parameter in the request body";
        return Err(Refusal::bad(words).into());
    };
    let call = Call {
        r#type: Some(Type::Teardown as i32),
        teardown: Some(Teardown {
            framework_id: id.into(),
        }),
        ..Default::default()
    };
    operator::submit(&office, call).await?;
    Ok(answer::empty(200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_mesos_reads_them() {
        for (query, refusal) in [
            ("", None),
            ("timeout=5secs", None),
            ("timeout=1.5mins", None),
            (
                "timeout=xyz",
                Some("Invalid timeout 'xyz': Failed to convert '' to number.\n"),
            ),
            (
                "timeout=5parsecs",
                Some("Invalid timeout '5parsecs': Unknown duration unit 'parsecs'.\n"),
            ),
            (
                "timeout=5",
                Some("Invalid timeout '5': Unknown duration unit ''.\n"),
            ),
        ] {
            let told = check_timeout(&Query::parse(query)).err();
            assert_eq!(told.map(|why| why.text).as_deref(), refusal, "{query}");
        }
    }

    #[test]
    fn only_names_are_called_back() {
        assert!(wrap(b"{}".to_vec(), Some("cb.x_1")).is_ok());
        for bad in ["", "alert(1);x", "a b", "<x>"] {
            assert!(wrap(b"{}".to_vec(), Some(bad)).is_err(), "{bad}");
        }
    }
}

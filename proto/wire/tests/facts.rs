//! Numbers, labels and defaults against a table of facts of the protocol.

use mezzo_wire::descriptor::{self, DefaultValue, Label};

#[test]
fn fields_and_values_have_their_numbers() {
    let mut fields = 0;
    for line in include_str!("data/facts.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, facts) = line.split_once(": ").expect(line);
        let name = format!("mezzo.v1.{name}");
        let mut expected: Vec<&str> = facts.split(' ').collect();
        fields += expected.len();
        let mut actual: Vec<String> = match descriptor::message(&name) {
            Some(info) => {
                let own = |field: &&descriptor::FieldInfo| field.number < 1000;
                let fact = |field: &descriptor::FieldInfo| {
                    let label = match field.label {
                        Label::Optional => "",
                        Label::Required => "!",
                        Label::Repeated => "*",
                    };
                    format!("{}:{}{label}", field.name, field.number)
                };
                info.fields.iter().filter(own).map(fact).collect()
            }
            None => {
                let info = descriptor::enums()
                    .iter()
                    .find(|info| info.full_name == name);
                let info = info.unwrap_or_else(|| panic!("{name} is not there"));
                info.values()
                    .map(|(number, name)| format!("{name}:{number}"))
                    .collect()
            }
        };
        expected.sort_unstable();
        actual.sort_unstable();
        assert_eq!(actual, expected, "{name}");
    }
    assert!(fields > 500, "{fields} facts");
}

#[test]
fn absent_fields_have_their_defaults() {
    use DefaultValue::{Bool, Double, Enum, Int, Text};
    let facts = [
        ("FrameworkInfo.failover_timeout", Double(0.0)),
        ("FrameworkInfo.checkpoint", Bool(false)),
        ("FrameworkInfo.role", Text("*")),
        ("CheckInfo.delay_seconds", Double(15.0)),
        ("CheckInfo.interval_seconds", Double(10.0)),
        ("CheckInfo.timeout_seconds", Double(20.0)),
        ("HealthCheck.HTTPCheckInfo.protocol", Enum("IPv4")),
        ("HealthCheck.TCPCheckInfo.protocol", Enum("IPv4")),
        ("HealthCheck.delay_seconds", Double(15.0)),
        ("HealthCheck.interval_seconds", Double(10.0)),
        ("HealthCheck.timeout_seconds", Double(20.0)),
        ("HealthCheck.consecutive_failures", Int(3)),
        ("HealthCheck.grace_period_seconds", Double(10.0)),
        ("CommandInfo.URI.extract", Bool(true)),
        ("CommandInfo.shell", Bool(true)),
        ("MasterInfo.port", Int(5050)),
        ("AgentInfo.port", Int(5051)),
        ("CSIPluginInfo.name", Text("default")),
        ("Resource.role", Text("*")),
        ("Filters.refuse_seconds", Double(5.0)),
        ("Environment.Variable.type", Enum("VALUE")),
        ("Image.cached", Bool(true)),
        ("NetworkInfo.IPAddress.protocol", Enum("IPv4")),
        ("LinuxInfo.share_cgroups", Bool(true)),
        ("ContainerInfo.DockerInfo.network", Enum("HOST")),
        ("ContainerInfo.DockerInfo.privileged", Bool(false)),
        ("DrainConfig.mark_gone", Bool(false)),
        ("master.Call.DrainAgent.mark_gone", Bool(false)),
    ];
    let mut actual = Vec::new();
    for info in descriptor::messages() {
        let Some(message) = info.full_name.strip_prefix("mezzo.v1.") else {
            continue;
        };
        for field in info.fields.iter().filter(|field| field.number < 1000) {
            if let Some(default) = field.default {
                actual.push((format!("{message}.{}", field.name), default));
            }
        }
    }
    for (name, default) in facts {
        let at = actual
            .iter()
            .position(|fact| *fact == (name.to_owned(), default));
        actual.swap_remove(at.unwrap_or_else(|| panic!("{name} is not {default:?} by default")));
    }
    assert_eq!(actual, [], "no other field has one");
}

#[test]
fn what_is_out_of_use_is_marked() {
    for name in ["FrameworkInfo.role", "Resource.role", "ExecutorInfo.source"] {
        let (message, field) = name.split_once('.').expect(name);
        let info = descriptor::message(&format!("mezzo.v1.{message}")).expect(name);
        let place = info.field_by_name(field).expect(name);
        assert!(info.fields[place].deprecated, "{name}");
    }
}

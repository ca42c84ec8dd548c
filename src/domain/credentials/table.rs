//! The table: the keys of each provider type's Secrets, by the names the original gives them.

use super::{Choice, Composition, Delivery, Key, Must, Shape};
use crate::api::account::ProviderType;
use crate::api::provider::CredentialsType;

const fn need(name: &'static str, delivery: Delivery) -> Key {
    Key {
        name,
        required: true,
        delivery,
    }
}

const fn may(name: &'static str, delivery: Delivery) -> Key {
    Key {
        name,
        required: false,
        delivery,
    }
}

const GOOGLE_USER: Delivery = Delivery::Composed(Composition::GcpUser);
const ORACLE: Delivery = Delivery::Composed(Composition::OciConfig);

/// The keys of a Secret; none where the provider type has no such credentials.
pub fn shape(provider: ProviderType, kind: CredentialsType) -> Option<&'static Shape> {
    use CredentialsType::{Role, ServiceAccount, Static};
    Some(match (provider, kind) {
        (ProviderType::Aws, Static) => &AWS_STATIC,
        (ProviderType::Aws, Role) => &AWS_ROLE,
        (ProviderType::Azure, Static) => &AZURE,
        (ProviderType::Gcp, Static) => &GCP_STATIC,
        (ProviderType::Gcp, ServiceAccount) => &GCP_SERVICE_ACCOUNT,
        (ProviderType::Kubernetes, Static) => &KUBERNETES,
        (ProviderType::M365, Static) => &M365,
        (ProviderType::Github, Static) => &GITHUB,
        (ProviderType::Iac, Static) => &IAC,
        (ProviderType::Oraclecloud, Static) => &ORACLECLOUD,
        (ProviderType::Mongodbatlas, Static) => &MONGODBATLAS,
        (ProviderType::Alibabacloud, Static) => &ALIBABACLOUD_STATIC,
        (ProviderType::Alibabacloud, Role) => &ALIBABACLOUD_ROLE,
        (ProviderType::Cloudflare, Static) => &CLOUDFLARE,
        (ProviderType::Openstack, Static) => &OPENSTACK,
        (ProviderType::Googleworkspace, Static) => &GOOGLEWORKSPACE,
        (ProviderType::Vercel, Static) => &VERCEL,
        (ProviderType::Image, Static) => &IMAGE,
        (ProviderType::Okta, Static) => &OKTA,
        (_, Role | ServiceAccount) => return None,
    })
}

static AWS_STATIC: Shape = Shape {
    keys: &[
        need("aws_access_key_id", Delivery::Env("AWS_ACCESS_KEY_ID")),
        need(
            "aws_secret_access_key",
            Delivery::Env("AWS_SECRET_ACCESS_KEY"),
        ),
        may("aws_session_token", Delivery::Env("AWS_SESSION_TOKEN")),
    ],
    choice: None,
};

static AWS_ROLE: Shape = Shape {
    keys: &[
        need("role_arn", Delivery::Flag("--role")),
        need("external_id", Delivery::Flag("--external-id")),
        may("role_session_name", Delivery::Flag("--role-session-name")),
        may("session_duration", Delivery::Flag("--session-duration")),
        may("aws_access_key_id", Delivery::Env("AWS_ACCESS_KEY_ID")),
        may(
            "aws_secret_access_key",
            Delivery::Env("AWS_SECRET_ACCESS_KEY"),
        ),
        may("aws_session_token", Delivery::Env("AWS_SESSION_TOKEN")),
    ],
    // Who assumes the role must be said: never the node on which the pod happens to run.
    choice: Some(Choice {
        groups: &[&["aws_access_key_id", "aws_secret_access_key"]],
        must: Must::UnlessServiceAccount,
    }),
};

static AZURE: Shape = Shape {
    keys: &[
        need("client_id", Delivery::Env("AZURE_CLIENT_ID")),
        need("client_secret", Delivery::Env("AZURE_CLIENT_SECRET")),
        need("tenant_id", Delivery::Env("AZURE_TENANT_ID")),
    ],
    choice: None,
};

static GCP_STATIC: Shape = Shape {
    keys: &[
        need("client_id", GOOGLE_USER),
        need("client_secret", GOOGLE_USER),
        need("refresh_token", GOOGLE_USER),
    ],
    choice: None,
};

static GCP_SERVICE_ACCOUNT: Shape = Shape {
    keys: &[need(
        "service_account_key",
        Delivery::File("service-account.json", "--credentials-file"),
    )],
    choice: None,
};

static KUBERNETES: Shape = Shape {
    keys: &[need(
        "kubeconfig_content",
        Delivery::File("kubeconfig", "--kubeconfig-file"),
    )],
    choice: None,
};

static M365: Shape = Shape {
    keys: &[
        need("client_id", Delivery::Env("AZURE_CLIENT_ID")),
        need("tenant_id", Delivery::Env("AZURE_TENANT_ID")),
        may("client_secret", Delivery::Env("AZURE_CLIENT_SECRET")),
        may(
            "certificate_content",
            Delivery::Env("M365_CERTIFICATE_CONTENT"),
        ),
        may("user", Delivery::Unused),
        may("password", Delivery::Unused),
    ],
    choice: Some(Choice {
        groups: &[&["client_secret"], &["certificate_content"]],
        must: Must::ExactlyOne,
    }),
};

static GITHUB: Shape = Shape {
    keys: &[
        may(
            "personal_access_token",
            Delivery::Env("GITHUB_PERSONAL_ACCESS_TOKEN"),
        ),
        may("oauth_app_token", Delivery::Env("GITHUB_OAUTH_APP_TOKEN")),
        may("github_app_id", Delivery::Env("GITHUB_APP_ID")),
        may("github_app_key_content", Delivery::Env("GITHUB_APP_KEY")),
    ],
    choice: Some(Choice {
        groups: &[
            &["personal_access_token"],
            &["oauth_app_token"],
            &["github_app_id", "github_app_key_content"],
        ],
        must: Must::AtLeastOne,
    }),
};

static IAC: Shape = Shape {
    keys: &[
        may("repository_url", Delivery::Unused),
        may("access_token", Delivery::Env("GITHUB_OAUTH_APP_TOKEN")),
    ],
    choice: None,
};

static ORACLECLOUD: Shape = Shape {
    keys: &[
        need("user", ORACLE),
        need("fingerprint", ORACLE),
        need("tenancy", ORACLE),
        may("key_file", ORACLE),
        may("key_content", ORACLE),
        may("pass_phrase", ORACLE),
        may("region", ORACLE),
    ],
    choice: Some(Choice {
        groups: &[&["key_content"], &["key_file"]],
        must: Must::AtLeastOne,
    }),
};

static MONGODBATLAS: Shape = Shape {
    keys: &[
        need("atlas_public_key", Delivery::Env("ATLAS_PUBLIC_KEY")),
        need("atlas_private_key", Delivery::Env("ATLAS_PRIVATE_KEY")),
    ],
    choice: None,
};

static ALIBABACLOUD_STATIC: Shape = Shape {
    keys: &[
        need(
            "access_key_id",
            Delivery::Env("ALIBABA_CLOUD_ACCESS_KEY_ID"),
        ),
        need(
            "access_key_secret",
            Delivery::Env("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        ),
        may(
            "security_token",
            Delivery::Env("ALIBABA_CLOUD_SECURITY_TOKEN"),
        ),
    ],
    choice: None,
};

static ALIBABACLOUD_ROLE: Shape = Shape {
    keys: &[
        need("role_arn", Delivery::Env("ALIBABA_CLOUD_ROLE_ARN")),
        need(
            "access_key_id",
            Delivery::Env("ALIBABA_CLOUD_ACCESS_KEY_ID"),
        ),
        need(
            "access_key_secret",
            Delivery::Env("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        ),
        may(
            "role_session_name",
            Delivery::Env("ALIBABA_CLOUD_ROLE_SESSION_NAME"),
        ),
    ],
    choice: None,
};

static CLOUDFLARE: Shape = Shape {
    keys: &[
        may("api_token", Delivery::Env("CLOUDFLARE_API_TOKEN")),
        may("api_key", Delivery::Env("CLOUDFLARE_API_KEY")),
        may("api_email", Delivery::Env("CLOUDFLARE_API_EMAIL")),
    ],
    choice: Some(Choice {
        groups: &[&["api_token"], &["api_key", "api_email"]],
        must: Must::AtLeastOne,
    }),
};

static OPENSTACK: Shape = Shape {
    keys: &[
        need(
            "clouds_yaml_content",
            Delivery::File("clouds.yaml", "--clouds-yaml-file"),
        ),
        need("clouds_yaml_cloud", Delivery::Flag("--clouds-yaml-cloud")),
    ],
    choice: None,
};

static GOOGLEWORKSPACE: Shape = Shape {
    keys: &[
        need(
            "credentials_content",
            Delivery::Env("GOOGLEWORKSPACE_CREDENTIALS_CONTENT"),
        ),
        need(
            "delegated_user",
            Delivery::Env("GOOGLEWORKSPACE_DELEGATED_USER"),
        ),
    ],
    choice: None,
};

static VERCEL: Shape = Shape {
    keys: &[need("api_token", Delivery::Env("VERCEL_TOKEN"))],
    choice: None,
};

static IMAGE: Shape = Shape {
    keys: &[
        may("registry_token", Delivery::Env("REGISTRY_TOKEN")),
        may("registry_username", Delivery::Env("REGISTRY_USERNAME")),
        may("registry_password", Delivery::Env("REGISTRY_PASSWORD")),
    ],
    choice: Some(Choice {
        groups: &[&["registry_username", "registry_password"]],
        must: Must::Whole,
    }),
};

static OKTA: Shape = Shape {
    keys: &[
        need("okta_client_id", Delivery::Env("OKTA_CLIENT_ID")),
        need("okta_private_key", Delivery::Env("OKTA_PRIVATE_KEY")),
        may("okta_scopes", Delivery::Env("OKTA_SCOPES")),
    ],
    choice: None,
};

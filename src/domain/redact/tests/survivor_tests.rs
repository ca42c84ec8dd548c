//! What people need to find a fault, and no rule may take from them.

use super::super::redact;

const SENTENCES: &[&str] = &[
    // AWS
    "CRITICAL: The security token included in the request is invalid. Account 123456789012, region us-east-1",
    "botocore.exceptions.ClientError: An error occurred (InvalidClientTokenId) when calling the GetCallerIdentity operation: The security token included in the request is invalid.",
    "An error occurred (ExpiredToken) when calling the AssumeRole operation: The provided token has expired.",
    "ExpiredToken: The provided token has expired.",
    "An error occurred (AccessDenied) when calling the AssumeRole operation: User: arn:aws:sts::123456789012:assumed-role/prowler/session is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::210987654321:role/ProwlerScan",
    "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: secretsmanager:GetSecretValue",
    "is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:eu-west-1:123456789012:parameter/cdk-bootstrap/hnb659fds/version",
    "arn:aws:ecs:eu-west-1:123456789012:task/production/0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/database-AbCdEf is not rotated",
    "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    "Could not connect to the endpoint URL: \"https://sts.eu-central-1.amazonaws.com/\"",
    "EndpointConnectionError: Could not connect to the endpoint URL: https://ec2.us-gov-west-1.amazonaws.com/",
    "SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
    "Rate exceeded (Throttling), request id: 8b3c4a5d-1f2e-4d3c-9b8a-7c6d5e4f3a2b",
    "ProfileNotFound: The config profile (audit) could not be found",
    "EBS Snapshot snap-2c959cd2f64c3c186 in vpc-0a1b2c3d4e5f67890 is unencrypted.",
    "[1915] The provided AWS credentials belong to a different account",
    // Azure and Microsoft 365
    "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '4a5b6c7d-8e9f-4a1b-8c2d-3e4f5a6b7c8d'.",
    "AADSTS700016: Application with identifier '4a5b6c7d-8e9f-4a1b-8c2d-3e4f5a6b7c8d' was not found in the directory 'Contoso'. Trace ID: 1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d Correlation ID: 5d4c3b2a-1f0e-4d9c-8b7a-6f5e4d3c2b1a Timestamp: 2026-11-26 18:00:00Z",
    "ClientAuthenticationError: Authentication failed: invalid_client",
    "AuthenticationError: EnvironmentCredential authentication unavailable. Environment variables are not fully configured.",
    "The client '4a5b6c7d-8e9f-4a1b-8c2d-3e4f5a6b7c8d' does not have authorization to perform action 'Microsoft.Resources/subscriptions/read' over scope '/subscriptions/11111111-2222-3333-4444-555555555555'",
    "AzureHTTPResponseError[2006]: Subscription 11111111-2222-3333-4444-555555555555 was not found",
    "M365ClientIdAndClientSecretNotBelongingToTenantIdError[6012]: The provided client ID and client secret do not belong to the specified tenant ID.",
    "DefaultAzureCredential failed to retrieve a token from the included credentials.",
    "Tenant 22222222-3333-4444-5555-666666666666, subscription 11111111-2222-3333-4444-555555555555",
    // Google
    "google.auth.exceptions.RefreshError: ('invalid_grant: Token has been expired or revoked.', {'error': 'invalid_grant', 'error_description': 'Token has been expired or revoked.'})",
    "google.auth.exceptions.MalformedError: Service account info was not in the expected format, missing fields token_uri, client_email.",
    "GCPLoadServiceAccountKeyError[3006]: Error loading Service Account Private Key credentials from dictionary",
    "HttpError 403 when requesting https://cloudresourcemanager.googleapis.com/v1/projects/acme-prod-1234?alt=json returned \"The caller does not have permission\"",
    "projects/acme-prod-1234/serviceAccounts/prowler@acme-prod-1234.iam.gserviceaccount.com",
    "projects/acme-prod-1234/secrets/database-password/versions/3",
    // Kubernetes
    "(401) Unauthorized: {\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"Unauthorized\",\"reason\":\"Unauthorized\",\"code\":401}",
    "kubernetes.config.config_exception.ConfigException: Invalid kube-config file. Expected object with name prod in /credentials/kubeconfig/contexts list",
    "MountVolume.SetUp failed for volume \"credentials\" : secret \"aws-prod\" not found",
    "couldn't find key aws_secret_access_key in Secret team-a/aws-prod",
    "Secret \"aws-prod\" is invalid: data[token]: Required value",
    "pods \"scan-0193f2a1-7b3c-7d4e-8f5a-6b7c8d9e0f1a-1-x2x9z\" is forbidden: exceeded quota: compute, requested: limits.memory=4Gi, used: limits.memory=8Gi, limited: limits.memory=8Gi",
    "Error creating: pods \"scan\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false",
    "Failed to pull image \"ghcr.io/acme/prowler@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\": rpc error: code = NotFound desc = failed to resolve reference",
    "Failed to pull image \"registry.example.com/team/prowler:5.46.0\": unauthorized: authentication required",
    "Back-off restarting failed container scan in pod prowler-operator-7d9f8b6c5d-x2x9z_team-a(0193f2a1-7b3c-7d4e-8f5a-6b7c8d9e0f1a)",
    "serviceaccounts \"prowler\" is forbidden: User \"system:serviceaccount:team-a:prowler\" cannot list resource \"secrets\" in API group \"\" at the cluster scope",
    // GitHub, GitLab, registries, the rest
    "github.GithubException.BadCredentialsException: 401 {\"message\": \"Bad credentials\", \"documentation_url\": \"https://docs.github.com/rest\"}",
    "fatal: could not read Username for 'https://github.com/acme/infrastructure': terminal prompts disabled",
    "ssh://git@github.com/acme/infrastructure.git could not be cloned",
    "OCIInvalidConfigError: {'user': 'malformed', 'fingerprint': 'missing'}",
    "fingerprint 20:3b:97:13:55:1c:5b:0d:d3:37:d8:50:4e:c5:3a:34 of key 1 does not match",
    "ocid1.tenancy.oc1..aaaaaaaaba3pv6wkcr4jqae5f44n2b2m2yt2j6rx32uzr4h25vqstifsfdsq",
    "MongoDB Atlas organization 5f1e2d3c4b5a69788796a5b4 was not found",
    "Cloudflare account 0f1e2d3c4b5a69788796a5b4c3d2e1f0 has no zones",
    "https://api.cloudflare.com/client/v4/accounts/0f1e2d3c4b5a69788796a5b4c3d2e1f0/tokens/verify answered 403",
    "Vercel team team_nLlpyC6REAqxydlFKbrMDlud was not found",
    "okta_client_id 0oa1gjh63g214q0Hq0g4 is not allowed to use scope okta.users.read",
    "InvalidAccessKeyId.NotFound: Specified access key is not found.",
    "keystoneauth1.exceptions.http.Unauthorized: The request you have made requires authentication. (HTTP 401)",
    // Prowler itself
    "2026-11-26 18:00:00,123 [File: aws_provider.py:1121] \t[Module: aws_provider]\t CRITICAL: AWSClientError[1931] -- The security token included in the request is invalid",
    "prowler: error: argument --severity: invalid choice: 'urgent' (choose from 'critical', 'high', 'medium', 'low', 'informational')",
    "prowler: error: unrecognized arguments: --frobnicate",
    "CRITICAL: Invalid check(s) specified: s3_bucket_level_public_access_blocked, iam_root_mfa",
    "  File \"/home/prowler/.venv/lib/python3.12/site-packages/prowler/providers/aws/lib/session/aws_set_up_session.py\", line 51, in __init__",
    "Traceback (most recent call last):\n  File \"/usr/lib/python3.12/runpy.py\", line 198, in _run_module_as_main\nRuntimeError: token is missing",
    "KeyError: 'aws_secret_access_key'",
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: /common/oauth2/token (Caused by NameResolutionError)",
    "The instance has a globally-routable IPv6 address; see https://www.example.com/global-infrastructure/ and aws-glue-assets-prod",
    "User Id: AIDAJDPLRKLG7EXAMPLE, role id AROAJDPLRKLG7EXAMPLE:session",
    "acs:sas:cn-hangzhou:1234567890123456:machine/web is not protected",
    "- PASS: Both conditions hold. total_pass: 12",
    "Container backups metadata contains potential secrets -> Secret Keyword in metadata on line 3.",
    "Could not scan Lambda function report variables for secrets: exit status 2; manual review is required.",
    "Azure provider requires at least one authentication method set: [--az-cli-auth | --sp-env-auth | --browser-auth | --managed-identity-auth]",
    "client_secret: The client secret of the application",
    "Error: key_file is not a private key",
    "client_secret: Field required [type=missing]",
    "Password policy: the minimum length is 14 characters",
    "Potential secret found in Lambda function report variables -> Secret Keyword in variable DB_PASSWORD.",
    "Potential secret found in EC2 instance i-0123456789abcdef0 User Data -> Secret Keyword on line 3, Hex High Entropy String on line 1.",
    "CodeBuild project build has sensitive environment plaintext credentials in variables: AWS Access Key in variable KEY.",
    "User alice has rotated access key 1 in over 90 days (365 days).",
    "IAM role AWSServiceRoleForAmazonElasticFileSystem and AWSReservedSSO_AdministratorAccess_0123456789abcdef",
    "Bucket cdk-hnb659fds-assets-123456789012-eu-west-1 and terraform-20261126180000123400000001",
    "prowler-aws-s3_bucket_level_public_access_block-123456789012-eu-west-1-acme-logs",
    "Basic authentication is disabled; bearer tokens are required.",
    "http://[::1]:8080/metrics and https://example.com:8443/path/to/page?region=eu-west-1&limit=50#top",
];

#[test]
fn ordinary_sentences_survive() {
    let changed: Vec<_> = SENTENCES
        .iter()
        .map(|text| (redact(text), text))
        .filter(|(clean, text)| clean != *text)
        .map(|(clean, text)| format!("{text}\n→ {clean}"))
        .collect();
    assert!(changed.is_empty(), "{}", changed.join("\n\n"));
}

#[test]
fn each_survives_beside_the_others_in_one_log() {
    let log = SENTENCES.join("\n");
    let clean = redact(&log);
    for (one, other) in log.lines().zip(clean.lines()) {
        assert_eq!(one, other);
    }
}

"""An AWS account in memory with things of many kinds, for hack/fixtures: account.py PORT. It prints
"filled" when they are there, and stays until it is killed. No value in it is a secret."""
import io
import json
import logging
import os
import signal
import sys
import zipfile

import boto3
from moto.server import ThreadedMotoServer

# Not a line for each request.
logging.getLogger("werkzeug").setLevel(logging.WARNING)
PORT = int(sys.argv[1])


def client(name, region="us-east-1"):
    return boto3.client(name, region_name=region, endpoint_url=f"http://127.0.0.1:{PORT}",
                        aws_access_key_id="demo", aws_secret_access_key="demo")


def policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def buckets(s3):
    for name in ("logs", "backups", "website", "uploads"):
        s3.create_bucket(Bucket=f"demo-{name}")
    # Labels are written as "key:value": colons, an empty value and other scripts must survive it.
    s3.put_bucket_tagging(Bucket="demo-logs", Tagging={"TagSet": [
        {"Key": "team", "Value": "platform"}, {"Key": "cost:centre", "Value": "a:b:c"},
        {"Key": "empty", "Value": ""}, {"Key": "città", "Value": "Zürich 東京 🙂"}]})
    s3.put_bucket_versioning(Bucket="demo-backups", VersioningConfiguration={"Status": "Enabled"})
    s3.put_public_access_block(Bucket="demo-backups", PublicAccessBlockConfiguration={
        "BlockPublicAcls": True, "IgnorePublicAcls": True,
        "BlockPublicPolicy": True, "RestrictPublicBuckets": True})
    s3.put_bucket_acl(Bucket="demo-uploads", ACL="public-read")
    s3.put_bucket_policy(Bucket="demo-website", Policy=policy({
        "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::demo-website/*"}))


def people(iam):
    for name in ("alice", "bob", "carol"):
        iam.create_user(UserName=name, Tags=[{"Key": "owner", "Value": name}])
        iam.create_login_profile(UserName=name, Password="Only-a-demo-1")
    # Findings about the two keys of one user have the same uid.
    for _ in range(2):
        iam.create_access_key(UserName="alice")
    iam.create_role(RoleName="instances", AssumeRolePolicyDocument=policy({
        "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}))
    everything = iam.create_policy(PolicyName="everything", PolicyDocument=policy({
        "Action": "*", "Resource": "*"}))
    iam.attach_user_policy(UserName="bob", PolicyArn=everything["Policy"]["Arn"])


def network(ec2):
    groups = []
    for block in ("10.1.0.0/16", "10.2.0.0/16"):
        vpc = ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]
        group = ec2.create_security_group(GroupName="web", Description="web \"open\" <all>", VpcId=vpc)
        groups.append(group["GroupId"])
    ec2.authorize_security_group_ingress(GroupId=groups[0], IpPermissions=[{
        "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    for encrypted in (False, True):
        volume = ec2.create_volume(AvailabilityZone=f"{ec2.meta.region_name}a", Size=8, Encrypted=encrypted)
        ec2.create_snapshot(VolumeId=volume["VolumeId"])


def queues(region):
    kms = client("kms", region)
    key = kms.create_key(Description="demo")["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=key)
    kms.create_key(Description="not rotated")
    topic = client("sns", region).create_topic(Name="news", Tags=[{"Key": "team", "Value": "platform"}])
    client("sns", region).set_topic_attributes(
        TopicArn=topic["TopicArn"], AttributeName="Policy", AttributeValue=policy({
            "Principal": "*", "Action": "sns:Publish", "Resource": topic["TopicArn"]}))
    client("sqs", region).create_queue(QueueName="jobs", tags={"team": "platform"})
    client("dynamodb", region).create_table(
        TableName="orders", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST")


def programs(region):
    role = client("iam").get_role(RoleName="instances")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handler(event, context):\n    return 'hello'\n")
    # Prowler 5.46 is the first that does not tell the values of an environment, nor outputs of stacks.
    client("lambda", region).create_function(
        FunctionName="greeter", Runtime="python3.8", Role=role, Handler="main.handler",
        Code={"ZipFile": code.getvalue()}, Environment={"Variables": {"LOG_LEVEL": "info", "TABLE": "orders"}})
    client("cloudformation", region).create_stack(StackName="mail", TemplateBody=json.dumps({
        "Resources": {"Mail": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "mail"}}},
        "Outputs": {"Address": {"Value": "mail.example.com"}}}))
    client("cognito-idp", region).create_user_pool(PoolName="customers")


ThreadedMotoServer(ip_address="127.0.0.1", port=PORT).start()
buckets(client("s3"))
people(client("iam"))
for place in ("us-east-1", "eu-west-1"):
    network(client("ec2", place))
    queues(place)
    programs(place)
print("filled", flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.pause()

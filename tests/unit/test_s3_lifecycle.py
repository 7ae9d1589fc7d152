"""deploy/s3-lifecycle.json: S3 takes it as it is, and it lets nothing go that Darkroom still keeps."""

import json
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from shared.settings import Settings
from shared.spec import INPUT_PREFIX

RULES = json.loads((Path(__file__).parents[2] / "deploy" / "s3-lifecycle.json").read_text())
DAY_S = 86400


def test_s3_takes_it():
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(s3) as stub:
        stub.add_response("put_bucket_lifecycle_configuration", {})
        # botocore holds what it is given against S3's own description.
        s3.put_bucket_lifecycle_configuration(Bucket="darkroom", LifecycleConfiguration=RULES)


@pytest.mark.parametrize("prefix", ["results/", INPUT_PREFIX])
def test_files_outlive_the_jobs_they_belong_to(prefix):
    (days,) = [rule["Expiration"]["Days"] for rule in RULES["Rules"] if rule["Filter"]["Prefix"] == prefix]
    assert days * DAY_S > 2 * Settings().retention_s

"""Where AWS answers its own machines: the instance's metadata in version 2, and a container's credentials.

Strict contract fakes written from the public documentation; Secrets Manager and STS are moto's, not these.
"""

from tests.http_fake import HttpFake, Request, Said, said

KEYS = {
    "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
    "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "Token": "IQoJb3JpZ2luX2VjEXAMPLE//////////token==",
}


class AwsMachineFake(HttpFake):
    TOKEN = "AQAEAMetadataToken=="
    SHOWN = "the-pods-own-token"

    def __init__(self) -> None:
        super().__init__()
        self.expires = "2100-01-01T00:00:00Z"
        self.role: str | None = "gateway-role"

    def answer(self, request: Request) -> Said:
        if request.path == "/v1/credentials":
            if request.headers.get("authorization") != self.SHOWN:
                return Said(401)
            return said(200, {**KEYS, "Expiration": self.expires})
        if request.path == "/latest/api/token":
            ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            return Said(200, self.TOKEN.encode()) if request.method == "PUT" and ttl.isdecimal() else Said(400)
        if request.headers.get("x-aws-ec2-metadata-token") != self.TOKEN:
            return Said(401)
        base = "/latest/meta-data/iam/security-credentials/"
        if self.role is None:
            return Said(404)
        if request.path == base:
            return Said(200, self.role.encode())
        if request.path == base + self.role:
            return said(200, {"Code": "Success", "Type": "AWS-HMAC", **KEYS, "Expiration": self.expires})
        return Said(404)

